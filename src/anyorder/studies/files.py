"""The files of a study: where they lie, and what they hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyorder.errors import ConfigError, UserError
from anyorder.files import read_json, writable
from anyorder.folders import inside
from anyorder.settings import checked

STUDY = "study.json"
SETTINGS, RESULT, ERROR, SUCCESS = "settings.json", "result.json", "error.json", "success.json"
STATE, PROGRESS, WEIGHTS = "state.safetensors", "progress.json", "weights.safetensors"


def run_folder(out: str | Path, run: str) -> Path:
    """Return the folder of a run.

    Raises:
        UserError: its id, read from a file, leads elsewhere.
    """
    return inside(Path(out) / "runs", run, "id of a run")


def is_open(out: str | Path, run: str, result: str = RESULT) -> bool:
    """Whether a run has neither its result nor an error that ended it."""
    folder = run_folder(out, run)
    return not (folder / result).is_file() and not (folder / ERROR).is_file()


def failed_runs(out: str | Path, runs: Sequence[str]) -> list[str]:
    """Return the ids of those runs that an error ended."""
    return [run for run in runs if (run_folder(out, run) / ERROR).is_file()]


def check_place(field: str, folder: Path) -> None:
    """Refuse a folder that cannot be, or that holds what is not a study's; a message calls it ``field``.

    Raises:
        ConfigError: there is a file, a dataset, or a table that would be overwritten.
    """
    if (folder.exists() and not folder.is_dir()) or not writable(folder / STUDY):
        raise ConfigError(field, str(folder), "a folder, where one can be made")
    others = [name for name in ("meta/info.json", "runs.parquet") if (folder / name).is_file()]
    if others and not (folder / STUDY).is_file():
        raise ConfigError(field, str(folder), f"a new folder, or one of a study: {others[0]} is there")


RESULT_FIELDS: dict[str, Any] = {
    "steps": int,
    "exact": bool,
    "train_nll": float,
    "test_draws_se": float,
    "history": list[dict[str, Any]],
    "wall_s": float,
    "cpu_s": float,
} | {
    f"{name}_{which}": kind
    for which in ("final", "best")
    for name, kind in (("loss", float), ("test", float), ("epochs", int))
}
RESULT_FIELDS |= {f"{kind}_{which}_se": float | None for kind in ("loss", "test") for which in ("final", "best")}
SUCCESS_FIELDS = {"success": float, "success_low": float, "success_high": float, "success_episodes": int}
PROGRESS_FIELDS = {"share": float, "wall_s": float | None}
STUDY_FIELDS = {"config": dict[str, Any], "data": dict[str, Any], "members": list[dict[str, Any]]}
MEMBER_FIELDS: dict[str, Any] = dict.fromkeys(("id", "grid", "family"), str)
MEMBER_FIELDS |= dict.fromkeys(("width", "params"), int)
MEMBER_FIELDS |= dict.fromkeys(("unique_tokens", "tokens", "flops", "estimated_s", "demos", "minutes"), float)
MEMBER_FIELDS |= {"regularisation": dict[str, float], "settings": dict[str, Any]}
RUN_FIELDS = dict.fromkeys(("epochs", "seed", "batch_size"), int)
FIELDS = {RESULT: RESULT_FIELDS, SUCCESS: SUCCESS_FIELDS, PROGRESS: PROGRESS_FIELDS, STUDY: STUDY_FIELDS}


def read_file(path: Path) -> dict[str, Any]:
    """Read a JSON file of a study, each field checked against its declaration above.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged.
    """
    found = checked(FIELDS[path.name], read_json(path), path, UserError)
    if path.name == STUDY:
        for member in found["members"]:
            checked(MEMBER_FIELDS, member, path, UserError)
            checked(RUN_FIELDS, member["settings"], path, UserError)
            run_folder(path.parent, member["id"])
        checked({"values_per_token": float}, found["data"], path, UserError)
    return found
