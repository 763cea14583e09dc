"""Checkpoints in LeRobot's layout, written so that a kill at any moment leaves a good one.

``checkpoints/<step>/pretrained_model`` holds the averaged weights and what inference needs, ``training_state`` what
resuming needs; ``checkpoints/last`` links to the newest complete one. A checkpoint is written under a temporary name,
flushed to disk, renamed, and linked last.
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from draccus.utils import DraccusException
from lerobot.configs import PreTrainedConfig
from lerobot.optim.optimizers import load_optimizer_state, save_optimizer_state
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from anyorder.datasets.origin import recorded_in
from anyorder.envs import EnvConfig
from anyorder.errors import CheckpointError, EnvError, bad_value
from anyorder.files import Words, flush_folder, write_whole
from anyorder.plugin.excepthook import user_error
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy, make_anyorder_pre_post_processors
from anyorder.settings import from_plain

if TYPE_CHECKING:
    from torch.optim.swa_utils import AveragedModel

LAST = "last"
PRETRAINED = "pretrained_model"
STATE = "training_state"
RECORDED_ENV = "recorded_env"
POLICY_FILES = ("config.json", "model.safetensors")
STATE_FILES = ("weights.safetensors", "optimizer_state.safetensors", "state.json")


def save_checkpoint(
    run: Path,
    step: int,
    policy: AnyOrderPolicy,
    average: "AveragedModel",
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of ``step`` and delete all but the newest ``keep``; returns its folder."""
    folder = run / "checkpoints"
    target = folder / f"{step:06d}"
    averaged = cast(AnyOrderPolicy, average.module)
    with replacing(target) as staged:
        pretrained, state = staged / PRETRAINED, staged / STATE
        pretrained.mkdir(parents=True)
        state.mkdir()
        averaged.save_pretrained(pretrained)
        for processor in make_anyorder_pre_post_processors(policy.config):
            processor.save_pretrained(pretrained)
        write_json(pretrained / "train_config.json", settings)
        save_file(policy.state_dict(), state / "weights.safetensors")
        save_optimizer_state(optimizer, state)
        write_json(state / "state.json", {"step": step, "averaged": int(average.n_averaged)})
    link = folder / f".{LAST}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    os.replace(link, folder / LAST)
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return target


def load_checkpoint(
    checkpoint: Path, policy: AnyOrderPolicy, average: "AveragedModel", optimizer: torch.optim.Optimizer
) -> int:
    """Restore a run from ``checkpoint`` in place; returns the step it was written at."""
    state = checkpoint / STATE
    require_files(state, STATE_FILES)
    require_files(checkpoint / PRETRAINED, POLICY_FILES)
    check_features(checkpoint, policy)
    with readable(checkpoint):
        policy.load_state_dict(load_file(state / "weights.safetensors"))
        average.module.load_state_dict(load_file(checkpoint / PRETRAINED / "model.safetensors"))
        load_optimizer_state(optimizer, state)
        saved = json.loads((state / "state.json").read_text())
    for number, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and not bool(value.isfinite().all()):
                field = f"optimizer state {name} of {tuple(number.shape)}"
                raise CheckpointError(bad_value(field, Words("NaN or infinity"), "finite numbers"))
    average.n_averaged.fill_(saved["averaged"])
    return int(saved["step"])


def check_features(checkpoint: Path, policy: AnyOrderPolicy) -> None:
    """Raise a ``CheckpointError`` if the checkpoint was made for features of other names or sizes."""
    with readable(checkpoint):
        saved = json.loads((checkpoint / PRETRAINED / "config.json").read_text())
        features = {**saved["input_features"], **saved["output_features"]}
        before = {name: list(feature["shape"]) for name, feature in features.items()}
    config = policy.config
    now = {name: list(f.shape) for name, f in {**config.input_features, **config.output_features}.items()}
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            allowed = f"{before.get(name)}, as in the checkpoint"
            raise CheckpointError(bad_value(f"shape of the dataset's {name}", now.get(name), allowed))


def load_policy(path: str | Path, device: str | None = None) -> AnyOrderPolicy:
    """Load a policy from a checkpoint, a run folder (its last checkpoint) or a ``pretrained_model`` folder.

    Raises:
        CheckpointError: nothing is there, a file is missing or damaged, or another policy type.
    """
    folder = policy_folder(Path(path))
    require_files(folder, POLICY_FILES)
    with readable(folder), contextlib.redirect_stdout(io.StringIO()):
        config = PreTrainedConfig.from_pretrained(folder)
        if not isinstance(config, AnyOrderConfig):
            raise CheckpointError(bad_value(f"{folder / 'config.json'} type", config.type, "anyorder"))
        if device is not None:
            config.device = device
        return AnyOrderPolicy.from_pretrained(folder, config=config, strict=True)


def recorded_env(path: str | Path) -> EnvConfig:
    """Return the environment that the policy's demonstrations were recorded in.

    The checkpoints of ``lerobot-train`` do not say: there the dataset is asked, while its folder is in place.

    Raises:
        EnvError: neither says; the data came from elsewhere.
    """
    folder = policy_folder(Path(path))
    require_files(folder, ("train_config.json",))
    with readable(folder):
        settings = json.loads((folder / "train_config.json").read_text())
        root = settings["dataset"]["root"]
    env: EnvConfig | None = None
    if settings.get(RECORDED_ENV) is not None:
        env = from_plain(EnvConfig, settings[RECORDED_ENV], "env")
    elif root is not None:
        env = recorded_in([Path(root)])
    if env is None:
        where = "the checkpoint's data" if root is None else f"the dataset {root}"
        allowed = f"env=NAME, as {where} does not name one (see `anyorder rollout --help`)"
        raise EnvError(bad_value("env", None, allowed))
    return env


def policy_folder(path: Path) -> Path:
    """Return the ``pretrained_model`` folder that ``path`` means."""
    last = last_checkpoint(path)
    of_run = () if last is None else (last / PRETRAINED,)
    for candidate in (path, path / PRETRAINED, *of_run):
        if candidate.is_dir() and (candidate.name == PRETRAINED or (candidate / "config.json").is_file()):
            return candidate
    allowed = "a run folder with checkpoints/last, a checkpoint or a pretrained_model folder"
    raise CheckpointError(bad_value("policy path", str(path), allowed))


def last_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None."""
    link = run / "checkpoints" / LAST
    if link.is_dir():
        return link.resolve()
    # The link may be gone, or lead to what is gone: it does not copy well.
    return next(reversed(checkpoints(run)), None)


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run by their steps; names of more than six digits differ in length."""
    found = [path for path in (run / "checkpoints").glob("*") if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def require_files(folder: Path, names: tuple[str, ...]) -> None:
    """Raise a ``CheckpointError`` that names the first missing file."""
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(
                bad_value("checkpoint without", str(folder / name), "a complete checkpoint")
            )


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn what damaged files raise into one line that names the folder."""
    try:
        yield
    except CheckpointError:
        raise
    except (
        SafetensorError,
        DraccusException,
        json.JSONDecodeError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        # Of settings, draccus says only that they could not be read; what was wrong with them is its cause.
        reason = " ".join(str(user_error(error) or error).split())[:300]
        raise CheckpointError(bad_value("checkpoint", str(folder), f"undamaged files ({reason})")) from error


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``target`` at once when the block ends well."""
    staged = target.with_name(f".{target.name}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".*.tmp"):  # by a kill
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    staged.mkdir()
    try:
        yield staged
        flush_folder(staged)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON whole, indented, with a final newline."""
    write_whole(path, json.dumps(value, indent=2, default=str) + "\n")
