"""Which checkpoints a run's folder holds, of which steps, which is the newest, and where a policy lies in it."""

import os
import shutil
from pathlib import Path
from typing import Any

from anyorder.errors import CheckpointError, bad_value
from anyorder.files import read_json
from anyorder.settings import checked

CHECKPOINTS = "checkpoints"
LAST = "last"
PRETRAINED = "pretrained_model"
STATE = "training_state"
STATE_JSON = "state.json"


def last_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint that a run goes on from, or None: the one ``last`` links to, else the newest.

    Raises:
        CheckpointError: the state of a checkpoint without a number is damaged.
    """
    link = run / CHECKPOINTS / LAST
    if link.is_symlink() and link.is_dir():
        return link.resolve()
    # The link may be gone, lead to what is gone, or have become a folder: it does not copy well.
    return next(reversed(checkpoints(run)), None)


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run by their steps; names of more than six digits differ in length.

    A ``last`` that is a folder is one of them, before the one with the number of its step.

    Raises:
        CheckpointError: the state of a checkpoint without a number is damaged.
    """
    folder = run / CHECKPOINTS
    found = [folder / LAST] if is_copy(folder / LAST) else []
    found += [path for path in folder.glob("*") if path.name.isdecimal() and path.is_dir()]

    def order(path: Path) -> int:
        step = step_of(path)
        return -1 if step is None else step

    return sorted(found, key=order)


def policy_folder(path: Path) -> Path:
    """Return the ``pretrained_model`` folder that ``path`` means: a run, a checkpoint or that folder itself.

    Raises:
        CheckpointError: it is none of them.
    """
    last = last_checkpoint(path)
    of_run = () if last is None else (last / PRETRAINED,)
    for candidate in (path, path / PRETRAINED, *of_run):
        if candidate.is_dir() and (candidate.name == PRETRAINED or (candidate / "config.json").is_file()):
            return candidate
    allowed = "a run folder with checkpoints/last, a checkpoint or a pretrained_model folder"
    raise CheckpointError("policy path", str(path), allowed)


def step_of(checkpoint: Path) -> int | None:
    """Return the step of a checkpoint: the number it is called by, else what its state says; None without one.

    Raises:
        CheckpointError: the state is damaged.
    """
    if checkpoint.name.isdecimal():
        return int(checkpoint.name)
    try:
        return int(read_state(checkpoint)["step"])
    except FileNotFoundError:
        return None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the ``state.json`` of a checkpoint: its ``step``, and how often weights were ``averaged``.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged.
    """
    path = checkpoint / STATE / STATE_JSON
    fields = {"step": int, "averaged": int}
    found = checked(fields, read_json(path, CheckpointError), path, CheckpointError)
    for name in fields:
        if found[name] < 0:
            raise CheckpointError(f"{path}: {bad_value(name, found[name], 'an integer >= 0')}")
    return found


def is_copy(last: Path) -> bool:
    """Whether ``last`` is a folder instead of a link, as after a copy that follows links."""
    return last.is_dir() and not last.is_symlink()


def link_last(target: Path) -> None:
    """Let ``last`` beside the checkpoint ``target`` link to it; a folder of that name stays, under its number."""
    last = target.with_name(LAST)
    if is_copy(last):
        step = step_of(last)
        named = last.with_name(f"{LAST}.{target.name}" if step is None else folder_name(step))
        if named.exists():
            shutil.rmtree(last)
        else:
            last.rename(named)
    link = target.with_name(f".{LAST}.tmp")
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    os.replace(link, last)


def folder_name(step: int) -> str:
    """Return what the checkpoint of a step is called."""
    return f"{step:06d}"
