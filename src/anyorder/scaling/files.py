"""The files of a study: where they lie."""

from pathlib import Path

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
