"""Checkpoints in LeRobot's layout, written so that a kill at any moment leaves a good one.

``checkpoints/<step>/pretrained_model`` holds the averaged weights and what inference needs, ``training_state`` what
resuming needs; ``checkpoints/last`` links to the newest complete one. A checkpoint is written under a temporary name,
flushed to disk, renamed, and linked last.
"""

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lerobot.optim.optimizers import load_optimizer_state, save_optimizer_state
from safetensors.torch import load_file, save_file

from anyorder.datasets.write.origin import Origin
from anyorder.envs import EnvConfig
from anyorder.errors import CheckpointError, EnvError, bad_value
from anyorder.files import Words, read_json, write_json
from anyorder.folders import becoming
from anyorder.policies import AnyOrderPolicy, make_anyorder_pre_post_processors
from anyorder.policies.saved import POLICY_FILES, read_config, readable
from anyorder.settings import convert
from anyorder.sums import check_sums, write_sums
from anyorder.training.config import TRAIN_CONFIG
from anyorder.training.run_folder import (
    CHECKPOINTS,
    PRETRAINED,
    STATE,
    STATE_JSON,
    checkpoints,
    folder_name,
    last_checkpoint,
    link_last,
    policy_folder,
    read_state,
)

if TYPE_CHECKING:
    from anyorder.training.learner import Learner

RECORDED_ENV = "recorded_env"
STATE_FILES = ("weights.safetensors", "optimizer_state.safetensors", STATE_JSON)


def save_checkpoint(run: Path, step: int, learner: "Learner", settings: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of ``step`` and delete all but the newest ``keep``; returns its folder."""
    target = run / CHECKPOINTS / folder_name(step)
    averaged = learner.averaged
    with replacing(target) as staged:
        pretrained, state = staged / PRETRAINED, staged / STATE
        pretrained.mkdir(parents=True)
        state.mkdir()
        averaged.save_pretrained(pretrained)
        for processor in make_anyorder_pre_post_processors(averaged.config):
            processor.save_pretrained(pretrained)
        write_json(pretrained / TRAIN_CONFIG, settings)
        write_sums(pretrained)
        save_file(learner.policy.state_dict(), state / "weights.safetensors")
        save_optimizer_state(learner.optimizer, state)
        write_json(state / STATE_JSON, {"step": step, "averaged": int(learner.average.n_averaged)})
        write_sums(state)
    link_last(target)
    prune(run, keep)
    return target


def prune(run: Path, keep: int) -> None:
    """Delete all checkpoints but the newest ``keep`` and the one that ``last`` links to, and what a kill left of any.

    None is ever seen half deleted.
    """
    sweep_left(run / CHECKPOINTS)
    last = last_checkpoint(run)
    for old in checkpoints(run)[:-keep]:
        if last is None or old.resolve() != last.resolve():
            old.rename(temporary(old))
    sweep_left(run / CHECKPOINTS)


def check_checkpoint(checkpoint: Path) -> None:
    """Check the files that resuming reads against the digests written with them; before minutes go into the data.

    Raises:
        CheckpointError: a file is missing, or not what was written.
    """
    hint = "to resume from an earlier checkpoint, link checkpoints/last to it"
    for folder, names in ((checkpoint / STATE, STATE_FILES), (checkpoint / PRETRAINED, POLICY_FILES)):
        require_files(folder, names)
        check_sums(folder, error=CheckpointError, hint=hint)


def load_checkpoint(checkpoint: Path, learner: "Learner") -> int:
    """Restore a learner from ``checkpoint``, which ``check_checkpoint`` has passed, in place; returns its step."""
    state = checkpoint / STATE
    require_files(state, STATE_FILES)
    require_files(checkpoint / PRETRAINED, POLICY_FILES)
    check_features(checkpoint, learner.averaged)
    saved = read_state(checkpoint)
    with readable(checkpoint):
        learner.policy.load_state_dict(load_file(state / "weights.safetensors"))
        learner.averaged.load_state_dict(load_file(checkpoint / PRETRAINED / "model.safetensors"))
        load_optimizer_state(learner.optimizer, state)
        learner.average.n_averaged.fill_(saved["averaged"])
    for number, values in learner.optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and not bool(value.isfinite().all()):
                field = f"optimizer state {name} of {tuple(number.shape)}"
                raise CheckpointError(field, Words("NaN or infinity"), "finite numbers")
    return int(saved["step"])


def check_features(checkpoint: Path, policy: AnyOrderPolicy) -> None:
    """Raise a ``CheckpointError`` if the checkpoint was made for features of other names or sizes."""
    before, now = (
        {name: list(f.shape) for name, f in {**config.input_features, **config.output_features}.items()}
        for config in (read_config(checkpoint / PRETRAINED), policy.config)
    )
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            allowed = f"{before.get(name)}, as in the checkpoint"
            raise CheckpointError(f"shape of the dataset's {name}", now.get(name), allowed)


def load_policy(path: str | Path, device: str | None = None) -> AnyOrderPolicy:
    """Load a policy from a checkpoint, a run folder (its last checkpoint) or a ``pretrained_model`` folder.

    A ``device`` of None is the policy's own, or the best there is where this machine lacks that.

    Raises:
        ConfigError: this machine has no such device.
        CheckpointError: nothing is there, a file is missing or damaged, or another policy type.
    """
    folder = policy_folder(Path(path))
    require_files(folder, POLICY_FILES)
    check_sums(folder, ["config.json"], CheckpointError)
    config = read_config(folder)
    if device is not None:
        config.device = device
    with contextlib.redirect_stdout(io.StringIO()):
        return AnyOrderPolicy.from_pretrained(folder, config=config, strict=True)


def recorded_env(path: str | Path) -> EnvConfig:
    """Return the environment that the policy's demonstrations were recorded in.

    The checkpoints of ``lerobot-train`` do not say: there the dataset is asked, while its folder is in place.

    Raises:
        EnvError: neither says; the data came from elsewhere.
    """
    folder = policy_folder(Path(path))
    require_files(folder, (TRAIN_CONFIG,))
    check_sums(folder, [TRAIN_CONFIG], CheckpointError)
    settings = read_json(folder / TRAIN_CONFIG, CheckpointError)
    dataset = settings.get("dataset")
    root = dataset.get("root") if isinstance(dataset, dict) else dataset
    if not isinstance(dataset, dict) or not isinstance(root, str | None):
        given = bad_value("dataset", dataset, "the settings of a dataset, whose root is a folder or null")
        raise CheckpointError(f"{folder / TRAIN_CONFIG}: {given}")
    env: EnvConfig | None = None
    if settings.get(RECORDED_ENV) is not None:
        env = convert(EnvConfig, settings[RECORDED_ENV], f"{folder / TRAIN_CONFIG}: {RECORDED_ENV}")
    elif root is not None:
        env = Origin.shared_env([Path(root)])
    if env is None:
        where = "the checkpoint's data" if root is None else f"the dataset {root}"
        hint = "see `anyorder rollout --help`; for a real arm docs/lerobot.md"
        raise EnvError("env", None, f"env=NAME, as {where} does not name one ({hint})")
    return env


def require_files(folder: Path, names: tuple[str, ...]) -> None:
    """Raise a ``CheckpointError`` that names the first missing file."""
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError("checkpoint without", str(folder / name), "a complete checkpoint")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``target`` at once when the block ends well; see ``becoming``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_left(target.parent)
    with becoming(target, temporary(target), replace=True) as staged:
        yield staged


def temporary(checkpoint: Path) -> Path:
    """Return what a checkpoint is called before it is whole, and once it is to be deleted."""
    return checkpoint.with_name(f".{checkpoint.name}.tmp")


def sweep_left(folder: Path) -> None:
    """Delete what is called ``temporary``, as a kill may have left some."""
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
