"""The files of a study: where they lie, and how they appear whole."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyorder.errors import UserError, bad_value

STUDY = "study.json"
SETTINGS, RESULT, ERROR, SUCCESS = "settings.json", "result.json", "error.json", "success.json"
STATE, PROGRESS, WEIGHTS = "state.pt", "progress.json", "weights.safetensors"


def run_folder(out: str | Path, run: str) -> Path:
    """Return the folder of a run."""
    return Path(out) / "runs" / run


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes ``path`` at once when the block ends well, on disk for good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield staged
        with staged.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole."""
    with whole(path) as staged:
        staged.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(bad_value(str(path), str(error), "the JSON that a study writes")) from error
