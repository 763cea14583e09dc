"""What a study has so far: how many runs are done, how long the rest will take, the table of all of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyorder.errors import ConfigError, UserError
from anyorder.files import whole, write_json
from anyorder.laws.runs import DIGEST, table_digest
from anyorder.studies.files import ERROR, FIELDS, PROGRESS, RESULT, STUDY, SUCCESS, check_place, read_file, run_folder
from anyorder.studies.grid import Member, as_plain, read_member

if TYPE_CHECKING:
    from anyorder.studies.data import StudyData

SIGN_OF_LIFE_S = 120.0
"""A run that has written nothing for this long is not running."""
STATES = ("done", "running", "failed", "waiting")
"""A run is in one of these states."""


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        member: the run.
        state: one of ``STATES``.
        left: share that is not done.
        took_s: seconds it took; None before it is done.
        spent_s: seconds of training until its last sign of life.
    """

    member: Member
    state: str
    left: float
    took_s: float | None
    spent_s: float


@dataclass(frozen=True)
class WrittenStudy:
    """What ``study.json`` holds: the settings as nested dicts, what ``data_facts`` says of the data, and the runs."""

    config: dict[str, Any]
    data: dict[str, Any]
    members: list[Member]


def write_study(out: Path, config: dict[str, Any], data: dict[str, Any], members: Sequence[Member]) -> None:
    """Write ``study.json``: the settings, what the data holds, and the runs."""
    write_json(out / STUDY, {"config": config, "data": data, "members": [as_plain(m) for m in members]})


def read_study(out: str | Path) -> WrittenStudy:
    """Read ``study.json``.

    Raises:
        UserError: there is none, or a value in it is none of a study.
    """
    path = Path(out) / STUDY
    if not path.is_file():
        allowed = "the folder of a study: `anyorder study run study=FILE.yaml out=...` makes one"
        raise UserError("out", str(out), allowed)
    found = read_file(path)
    try:
        members = [read_member(plain) for plain in found["members"]]
    except ConfigError as wrong:
        raise UserError(f"{path}: {wrong}") from wrong
    return WrittenStudy(found["config"], found["data"], members)


def check_folder(out: Path, members: Sequence[Member]) -> None:
    """Refuse a folder that no study can be in, or one whose finished runs this study does not have.

    Raises:
        ConfigError: runs would be lost from the table, or the folder cannot be.
    """
    check_place("out", out)
    if (out / STUDY).is_file():
        done = {m.id for m in read_study(out).members if (run_folder(out, m.id) / RESULT).is_file()}
        if lost := done - {m.id for m in members}:
            allowed = (
                f"a new folder, as {len(lost)} of {len(done)} finished runs there are none of this study, or settings "
                f"and data that keep them"
            )
            raise ConfigError("out", str(out), allowed)


def standing(out: str | Path, member: Member) -> Standing:
    """Look up where a run stands."""
    folder = run_folder(out, member.id)
    share = spent_s = 0.0
    try:
        age = time.time() - (folder / PROGRESS).stat().st_mtime
        progress = read_file(folder / PROGRESS)
        share, spent_s = float(progress["share"]), float(progress.get("wall_s") or 0.0)
    except FileNotFoundError:  # not begun, or done
        age = float("inf")
    # Looked for after the progress, as a run that is done writes its result before it removes that.
    if (folder / RESULT).is_file():
        took_s = read_file(folder / RESULT)["wall_s"]
        return Standing(member, "done", 0.0, took_s, took_s)
    if (folder / ERROR).is_file():
        return Standing(member, "failed", 0.0, None, spent_s)
    return Standing(member, "running" if age < SIGN_OF_LIFE_S else "waiting", 1 - share, None, spent_s)


def standings(out: str | Path, members: Sequence[Member]) -> list[Standing]:
    """Look up where all runs stand."""
    return [standing(out, member) for member in members]


def seconds_left(found: Sequence[Standing], workers: int) -> float:
    """Estimate the seconds until all is done, from the FLOPs of what is left and the speed so far."""
    done = [s for s in found if s.took_s is not None]
    expected = sum(s.member.estimated_s for s in done)
    slower = sum(s.took_s or 0.0 for s in done) / expected if done else 1.0
    left = [s.member.estimated_s * s.left * slower for s in found if s.left]
    # The last run cannot be shared out.
    return max([sum(left) / workers, *left])


def table(out: str | Path) -> list[dict[str, Any]]:
    """Return a row for each finished run, in the order of the study.

    Losses are nats per action token; ``test_*`` report, ``loss_*`` (validation) chose the best moment.
    """
    study = read_study(out)
    rows: list[dict[str, Any]] = []
    for member in study.members:
        folder = run_folder(out, member.id)
        if (folder / RESULT).is_file():
            found = read_file(folder / RESULT)
            success = read_file(folder / SUCCESS) if (folder / SUCCESS).is_file() else {}
            rows.append(row(member, found, success, study.data))
    return rows


def row(member: Member, found: dict[str, Any], success: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return a run's row."""
    return {
        "id": member.id,
        "factorization": member.family,
        "grid": member.grid,
        "width": member.width,
        "params": member.params,
        "tokens": member.tokens,
        "unique_tokens": member.unique_tokens,
        "epochs": member.settings.epochs,
        "flops": member.flops,
        **{k: found[k] for k in LOSSES},
        "train_nll": found["train_nll"],
        "exact": found["exact"],
        "test_draws_se": found["test_draws_se"],
        "values_per_token": data["values_per_token"],
        "demos": member.demos,
        "minutes": member.minutes,
        **member.regularization,
        "seed": member.settings.seed,
        "batch_size": member.settings.batch_size,
        "steps": found["steps"],
        **{k: success.get(k) for k in FIELDS[SUCCESS]},
        "wall_s": found["wall_s"],
        "cpu_s": found["cpu_s"],
    }


LOSSES = [f"{kind}_{which}{se}" for kind in ("loss", "test") for which in ("final", "best") for se in ("", "_se")]
LOSSES += ["epochs_best"]
TIMES = ("wall_s", "cpu_s")
"""Two studies of the same settings differ in these columns."""


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows as parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = {name: pa.int64() if kind is int else pa.float64() for name, kind in FIELDS[SUCCESS].items()}
    columns = {name: pa.array([r[name] for r in rows], type=numbers.get(name)) for name in (rows[0] if rows else {})}
    table = pa.table(columns)
    table = table.replace_schema_metadata({DIGEST: table_digest(table)})
    with whole(path) as staged:
        parquet.write_table(table, staged, write_page_checksum=True)


def data_facts(data: "StudyData") -> dict[str, Any]:
    """Return what a study's data holds, for ``study.json`` and messages."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        **{name: {"episodes": chunks.episodes, "frames": chunks.frames} for name, chunks in parts.items()},
        "unique_tokens": data.unique_tokens,
        "tokens_per_chunk": data.length,
        "values_per_token": data.values_per_token,
        "minutes": data.train.minutes,
    }
