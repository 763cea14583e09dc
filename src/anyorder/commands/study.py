"""``anyorder study run|status|collect``: many small trainings, and the table that laws are fitted to."""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from anyorder.bars import duration
from anyorder.commands.fit import rich_table
from anyorder.errors import MAX_COUNT, ConfigError, UserError
from anyorder.files import read_json, writable
from anyorder.folders import owned
from anyorder.settings import setting
from anyorder.studies.config import StudyConfig
from anyorder.studies.files import ERROR, RESULT, STUDY, SUCCESS, is_open, run_folder

if TYPE_CHECKING:
    from anyorder.studies.collect import Standing
    from anyorder.studies.data import StudyData
    from anyorder.studies.grid import Member
    from anyorder.studies.workers import Task

ACTIONS = ("run", "status", "collect")
LOCAL = "local"
LOOK_S = 2.0
"""Seconds between two looks at where the runs stand."""


@dataclass
class StudyCommandConfig(StudyConfig):
    """Settings of ``anyorder study``."""

    action: str = setting("status", "run, status or collect: the first word.", among=ACTIONS)
    study: str | None = setting(None, "The study: FILE.yaml, or small, actions, pilot of this package.")
    out: str = setting("outputs/study", "The study's folder.")
    workers: int = setting(0, "Processes, one thread each; all cores when 0.", least=0, most=MAX_COUNT)
    retries: int = setting(1, "Further tries of a run that fails.", least=0, most=MAX_COUNT)
    retry_failed: bool = setting(False, "Try again what failed in an earlier call.")
    dry_run: bool = setting(False, "Only say how many runs, FLOPs and hours.")
    launcher: str = setting(LOCAL, "local, or one of Hydra's: basic, joblib, submitit_local, submitit_slurm.")
    jobs: int = setting(1, "Jobs of a launcher.", least=1, most=MAX_COUNT)
    launcher_options: dict[str, str] = setting({}, "Settings of a launcher, as partition=gpu.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.launcher == LOCAL and self.launcher_options:
            allowed = "none with launcher=local"
            raise ConfigError("launcher_options", self.launcher_options, allowed)

    @property
    def processes(self) -> int:
        """How many runs go on at once."""
        if self.launcher != LOCAL:
            return self.jobs
        return self.workers or os.cpu_count() or 1

    def study_config(self) -> StudyConfig:
        """Return what decides the study's runs."""
        return StudyConfig(**{f.name: getattr(self, f.name) for f in fields(StudyConfig)})


def run(config: StudyCommandConfig, console: Console) -> None:
    """Do what the action says."""
    {"run": run_study, "status": status, "collect": collect}[config.action](config, console)


def again(config: StudyCommandConfig) -> str:
    """Return what the same command does after it was cut off."""
    out = Path(config.out)
    if config.action != "run" or not (out / STUDY).is_file():
        return "begins again"
    members = read_json(out / STUDY)["members"]
    done = sum((run_folder(out, m["id"]) / RESULT).is_file() for m in members)
    return f"goes on, with {done} of {len(members)} runs done"


def run_study(config: StudyCommandConfig, console: Console) -> None:
    """Train what is not trained yet, roll out what shall be, and say where the study stands."""
    from anyorder.studies.data import StudyData
    from anyorder.studies.grid import expand
    from anyorder.studies.success import check_success

    with console.status("reading the dataset"):
        study, out = config.study_config(), Path(config.out)
        data = StudyData(study)
        members = expand(study, data)
        check_success(study, data)
    console.print(f"{len(members)} runs on {in_words(data)}", highlight=False)
    if config.dry_run:
        plan(members, config.processes, console)
        return
    check_place("out", out)
    with owned(out, "out"):
        execute_all(config, study, data, members, console)
    status(config, console)
    if line := failures(out, [m.id for m in members]):
        raise UserError(line)


def execute_all(
    config: StudyCommandConfig,
    study: StudyConfig,
    data: "StudyData",
    members: list["Member"],
    console: Console,
) -> None:
    """Train what is not trained yet, and roll out what shall be."""
    from anyorder.settings import to_plain
    from anyorder.studies.collect import data_facts, write_study
    from anyorder.studies.success import chosen
    from anyorder.studies.workers import Task

    out, facts = Path(config.out), data_facts(data)
    check_folder(out, members)
    write_study(out, to_plain(study), facts, members)
    if config.retry_failed:
        for m in members:
            (run_folder(out, m.id) / ERROR).unlink(missing_ok=True)
    todo = [Task(m) for m in members if is_open(out, m.id)]
    started = time.perf_counter()
    execute(config, study, members, todo, console)
    rollouts = [Task(m, success=True) for m in chosen(members, study, out) if is_open(out, m.id, SUCCESS)]
    execute(config, study, members, rollouts, console)
    if todo or rollouts:
        more = f" and {len(rollouts)} rollouts" if rollouts else ""
        took = duration(time.perf_counter() - started)
        console.print(f"{len(todo)} runs{more} executed in {took}", highlight=False)
    else:
        console.print("nothing to execute: every run is done or has failed before", highlight=False)


def failures(out: Path, runs: Sequence[str]) -> str | None:
    """Return how many runs failed, why the first did, and how to try them again; None where none did."""
    failed = [run for run in runs if (run_folder(out, run) / ERROR).is_file()]
    if not failed:
        return None
    reason = read_json(run_folder(out, failed[0]) / ERROR).get("error")
    return (
        f"{len(failed)} of {len(runs)} runs failed, the first, {failed[0]}: {reason}; "
        "`anyorder study run` with retry_failed=true tries them again"
    )


def check_folder(out: Path, members: Sequence["Member"]) -> None:
    """Refuse a folder that no study can be in, or one whose finished runs this study does not have.

    Raises:
        ConfigError: runs would be lost from the table, or the folder cannot be.
    """
    from anyorder.studies.collect import read_study

    check_place("out", out)
    if (out / STUDY).is_file():
        done = {m["id"] for m in read_study(out)["members"] if (run_folder(out, m["id"]) / RESULT).is_file()}
        if lost := done - {m.id for m in members}:
            allowed = (
                f"a new folder, as {len(lost)} of {len(done)} finished runs there are none of this study, or settings "
                f"and data that keep them"
            )
            raise ConfigError("out", str(out), allowed)


def check_place(field: str, folder: Path) -> None:
    """Refuse a folder that cannot be, or that holds what is not a study's.

    Raises:
        ConfigError: there is a file, a dataset, or a table that would be overwritten.
    """
    if (folder.exists() and not folder.is_dir()) or not writable(folder / STUDY):
        raise ConfigError(field, str(folder), "a folder, where one can be made")
    others = [name for name in ("meta/info.json", "runs.parquet") if (folder / name).is_file()]
    if others and not (folder / STUDY).is_file():
        raise ConfigError(field, str(folder), f"a new folder, or one of a study: {others[0]} is there")


def in_words(data: "StudyData") -> str:
    """Return what there is to learn from, and who is held out."""
    return (
        f"{data.train.episodes} demonstrations of {data.train.minutes:.1f} minutes, "
        f"{data.unique_tokens:.0f} action tokens, {1 / data.values_per_token:.3g} an action value; "
        f"{data.validation.episodes} more choose, {data.test.episodes} report"
    )


def execute(
    config: StudyCommandConfig,
    study: StudyConfig,
    members: Sequence["Member"],
    tasks: Sequence["Task"],
    console: Console,
    deadline: float | None = None,
) -> None:
    """Do the tasks, here or by a launcher; here until a ``deadline`` of ``time.perf_counter()``, see ``work``."""
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from anyorder.bars import progress_bars
    from anyorder.studies.collect import seconds_left, standings
    from anyorder.studies.grid import as_plain
    from anyorder.studies.workers import work

    if not tasks:
        return
    out = Path(config.out)
    if config.launcher != LOCAL and not tasks[0].success:
        from anyorder.studies.launchers import launch

        launch(config.launcher, config.launcher_options, out, config.jobs, config.retries)
        return
    plain = [as_plain(m) for m in members]
    looked = 0.0
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with progress_bars(*columns, console=console) as bar:
        task = bar.add_task("rollouts" if tasks[0].success else "runs", total=len(tasks), left="")

        def progress() -> None:
            nonlocal looked
            if time.perf_counter() - looked < LOOK_S:
                return
            looked = time.perf_counter()
            done = sum((run_folder(out, t.member.id) / t.result).is_file() for t in tasks)
            left = ""
            if not tasks[0].success:
                seconds = seconds_left(standings(out, plain), config.processes)
                if deadline is not None:
                    seconds = max(0.0, min(seconds, deadline - time.perf_counter()))
                left = f"{duration(seconds)} left"
            bar.update(task, completed=done, left=left)

        failed = work(study, out, tasks, config.processes, config.retries, progress, deadline)
        looked = 0.0
        progress()
    for name, message in failed.items():
        console.print(f"failed: {name}: {message}", markup=False, highlight=False)


def plan(members: Sequence["Member"], processes: int, console: Console) -> None:
    """Print what the study would do."""
    families = list(dict.fromkeys(m.family for m in members))
    rows = []
    for family in families:
        mine = [m for m in members if m.family == family]
        spans = [span([getattr(m, k) for m in mine]) for k in ("params", "unique_tokens")]
        epochs = span([m.settings.epochs for m in mine])
        cost = sum(m.estimated_s for m in mine)
        rows.append(
            [family, str(len(mine)), *spans, epochs, f"{sum(m.flops for m in mine):.2e}", duration(cost)]
        )
    titles = ("family", "runs", "params", "unique tokens", "epochs", "FLOPs", "one core")
    console.print(rich_table(titles, rows))
    total, longest = sum(m.estimated_s for m in members), max(m.estimated_s for m in members)
    console.print(
        f"{len(members)} runs, {sum(m.flops for m in members):.3g} FLOPs, about {duration(total)} on one core, "
        f"{duration(max(total / processes, longest))} on {processes}; the longest {duration(longest)}",
        highlight=False,
    )


def status(config: StudyCommandConfig, console: Console) -> None:
    """Print where a study stands, by family."""
    from anyorder.studies.collect import read_study, seconds_left, standings

    found = standings(config.out, read_study(config.out)["members"])
    families = dict.fromkeys(s.member["family"] for s in found)
    rows = [state_row(name, [s for s in found if s.member["family"] == name]) for name in families]
    if len(rows) > 1:
        rows.append(state_row("all", found))
    console.print(rich_table(("family", "done", "running", "failed", "waiting", "FLOPs left"), rows))
    left = seconds_left(found, config.processes)
    if left:
        line = f"about {duration(left)} left on {config.processes} processes"
        console.print(f"{line}; the same `anyorder study run ...` continues", highlight=False)
    elif failed := failures(Path(config.out), [s.member["id"] for s in found]):
        console.print(failed, markup=False, highlight=False)
    else:
        words = shlex.quote(f"out={config.out}")
        console.print(f"complete; next: anyorder study collect {words}", markup=False, soft_wrap=True)


def state_row(name: str, found: Sequence["Standing"]) -> list[str]:
    """Return a family's row."""
    counts = [sum(s.state == state for s in found) for state in ("done", "running", "failed", "waiting")]
    flops = sum(s.member["flops"] * s.left for s in found)
    return [name, *map(str, counts), f"{flops:.2e}" if flops else "0"]


def collect(config: StudyCommandConfig, console: Console) -> None:
    """Write ``runs.parquet``."""
    from anyorder.studies.collect import read_study, table, write_table

    rows = table(config.out)
    if not rows:
        raise UserError("runs that are done", 0, "at least one: anyorder study run")
    path = Path(config.out) / "runs.parquet"
    with owned(path, "out"):
        write_table(rows, path)
    planned = len(read_study(config.out)["members"])
    missing = f" ({planned - len(rows)} of {planned} are missing)" if planned > len(rows) else ""
    console.print(f"{path}: {len(rows)} runs{missing}", markup=False, highlight=False)
    next_words = f"next: anyorder fit {shlex.quote(f'runs={path}')} loss=loss_final    # or loss=loss_best"
    console.print(next_words, markup=False, highlight=False, soft_wrap=True)


def span(values: Sequence[float]) -> str:
    """Return the least and the greatest.

    >>> span([1000, 250000, 3000])
    '1,000 to 250,000'
    """
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
