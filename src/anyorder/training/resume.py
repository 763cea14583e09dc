"""What a run continues from, and what may not have changed since it began."""

import json
from pathlib import Path
from typing import Any

from anyorder.datasets.read.fingerprint import check_unchanged
from anyorder.errors import CheckpointError, ConfigError
from anyorder.files import Words, read_json
from anyorder.settings import checked, completed, dotted, to_plain
from anyorder.training.checkpoint import RECORDED_ENV, check_checkpoint
from anyorder.training.config import PARTS_OF_A_RUN, TRAIN_CONFIG, TrainConfig
from anyorder.training.metrics import read_metrics
from anyorder.training.run_folder import PRETRAINED, last_checkpoint

DATA = "data.json"
"""File of a run's folder that tells what it learns from."""
FREE_ON_RESUME = (
    "output_dir",
    "resume",
    "progress",
    "wandb",
    "device",
    "keep_checkpoints",
    "dataset.cache_gb",
    "dataset.workers",
    "optimizer.lr",
    "optimizer.grad_clip_norm",
    "temperature",
    "nucleus",
    "decode",
    "blend",
    "rollout.freq",
)
"""Settings that may differ when a run is resumed: they change nothing about what is learned.

The two of the optimizer may have to be lowered where training diverged; of ``temperature``, ``nucleus`` and
``rollout.freq`` an older run may have values that are refused now.
"""


def check_output(run: Path, config: TrainConfig) -> Path | None:
    """Refuse to overwrite a run; return the checkpoint to resume from, if any."""
    if not run.exists():
        return None
    if not config.resume:
        raise ConfigError("output_dir", str(run), "a new folder, or resume=true to continue the run in it")
    saved, checkpoint = read_settings(run), last_checkpoint(run)
    if saved is not None:
        before, now = dotted(saved), dotted(as_json(to_plain(config)))
        # What is derived comes last, as its cause is what to name.
        for key in sorted(before.keys() | now.keys(), key=lambda key: (key in PARTS_OF_A_RUN, key)):
            free = any(key == name or key.startswith(f"{name}.") for name in FREE_ON_RESUME)
            if not free and before.get(key) != now.get(key):
                raise ConfigError(f"resume with another {key}", now.get(key), f"{before.get(key)}, as before")
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    logged = max((line["step"] for line in read_metrics(run)), default=0)
    if checkpoint is None and logged > config.save_freq:
        # To start again would drop what was measured.
        given = Words(f"metrics up to step {logged} without a checkpoint")
        allowed = f"the checkpoint in {run / 'checkpoints'}, or a new output_dir to begin again"
        raise ConfigError(f"resume of {run}", given, allowed)
    return checkpoint


def check_data(run: Path, data: dict[str, Any]) -> None:
    """Refuse to go on with other data than the run in a folder began with; older runs hold counts alone.

    Raises:
        DatasetError: names what has changed.
        CheckpointError: the run's ``data.json`` is damaged.
    """
    path = run / DATA
    if not path.is_file():
        return
    declared = {"dataset": dict[str, Any] | None}
    saved = checked(declared, read_json(path, CheckpointError), path, CheckpointError)
    before = saved.get("dataset")
    if before is None:
        before = {
            "episodes": [saved.get("train_episodes"), saved.get("validation_episodes")],
            "frames": [saved.get("train_frames"), data["frames"][1]],
        }
        data = {name: data[name] for name in before}
    check_unchanged(before, data, f"the run in {run}")


def read_settings(run: Path) -> dict[str, Any] | None:
    """Return the settings a run was started with, or None before it has written any.

    What an earlier version left unsaid is in them, too. Where the run's own file is missing or empty, as after a disk
    was full, its last checkpoint has them.

    Raises:
        CheckpointError: they cannot be read.
    """
    last = last_checkpoint(run)
    for path in (run / TRAIN_CONFIG, *([] if last is None else [last / PRETRAINED / TRAIN_CONFIG])):
        if path.is_file() and path.stat().st_size:
            found = read_json(path, CheckpointError)
            found.pop(RECORDED_ENV, None)
            try:
                return as_json(completed(TrainConfig, found))
            except ConfigError as wrong:
                raise CheckpointError(f"{path}: {wrong}") from wrong
    return None


def as_json(plain: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a JSON file gives them back, so that they compare."""
    return json.loads(json.dumps(plain, default=str))
