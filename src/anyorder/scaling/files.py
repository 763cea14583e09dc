"""The files of a study: where they lie, and JSON in them."""

import json
from pathlib import Path
from typing import Any

from anyorder.errors import UserError, bad_value
from anyorder.files import write_whole

STUDY = "study.json"
SETTINGS, RESULT, ERROR, SUCCESS = "settings.json", "result.json", "error.json", "success.json"
STATE, PROGRESS, WEIGHTS = "state.pt", "progress.json", "weights.safetensors"


def run_folder(out: str | Path, run: str) -> Path:
    """Return the folder of a run."""
    return Path(out) / "runs" / run


def is_open(out: str | Path, run: str, result: str = RESULT) -> bool:
    """Whether a run has neither its result nor an error that ended it."""
    folder = run_folder(out, run)
    return not (folder / result).is_file() and not (folder / ERROR).is_file()


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole."""
    write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(bad_value(str(path), str(error), "the JSON that a study writes")) from error
