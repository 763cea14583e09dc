"""``anyorder study run|status|collect``: many small trainings, and the table that laws are fitted to."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from anyorder.bars import duration
from anyorder.errors import UserError
from anyorder.files import read_json
from anyorder.folders import owned
from anyorder.reports.text_tables import rich_table
from anyorder.settings import part_of, setting
from anyorder.studies.config import StudyConfig
from anyorder.studies.execution import LOCAL, Execution
from anyorder.studies.files import ERROR, RESULT, STUDY, check_place, failed_runs, run_folder

if TYPE_CHECKING:
    from anyorder.studies.data import StudyData
    from anyorder.studies.grid import Member
    from anyorder.studies.workers import Task

ACTIONS = ("run", "status", "collect")


@dataclass
class StudyCommandConfig(StudyConfig, Execution):
    """Settings of ``anyorder study``: a study and how to execute it, side by side."""

    action: str = setting("status", "run, status or collect: the first word.", among=ACTIONS)
    study: str | None = setting(None, "The study: FILE.yaml, or small, actions, pilot of this package.")
    dry_run: bool = setting(False, "Only say how many runs, FLOPs and hours.")


def run(config: StudyCommandConfig, console: Console) -> None:
    """Do what the action says."""
    execution = part_of(Execution, config)
    if config.action == "run":
        run_study(part_of(StudyConfig, config), execution, config.dry_run, console)
    else:
        {"status": status, "collect": collect}[config.action](execution, console)


def again(config: StudyCommandConfig) -> str:
    """Return what the same command does after it was cut off."""
    out = Path(config.out)
    if config.action != "run" or not (out / STUDY).is_file():
        return "begins again"
    members = read_json(out / STUDY)["members"]
    done = sum((run_folder(out, m["id"]) / RESULT).is_file() for m in members)
    return f"goes on, with {done} of {len(members)} runs done"


def run_study(study: StudyConfig, execution: Execution, dry_run: bool, console: Console) -> None:
    """Train what is not trained yet, roll out what shall be, and say where the study stands."""
    from anyorder.reports.studies import data_line
    from anyorder.studies.data import StudyData
    from anyorder.studies.grid import expand
    from anyorder.studies.success import check_success

    with console.status("reading the dataset"):
        data = StudyData(study)
        members = expand(study, data)
        check_success(study, data)
    console.print(f"{len(members)} runs on {data_line(data)}", highlight=False)
    if dry_run:
        plan(members, execution.processes, console)
        return
    check_place("out", execution.folder)
    with owned(execution.folder, "out"):
        execute_all(execution, study, data, members, console)
    status(execution, console)
    if line := failures(execution.folder, [m.id for m in members]):
        raise UserError(line)


def execute_all(
    execution: Execution, study: StudyConfig, data: "StudyData", members: list["Member"], console: Console
) -> None:
    """Train what is not trained yet, and roll out what shall be."""
    from anyorder.settings import to_plain
    from anyorder.studies.collect import check_folder, data_facts, write_study
    from anyorder.studies.execution import open_runs
    from anyorder.studies.success import open_rollouts

    out, facts = execution.folder, data_facts(data)
    check_folder(out, members)
    write_study(out, to_plain(study), facts, members)
    todo = open_runs(members, execution)
    started = time.perf_counter()
    do(console, execution, study, members, todo)
    rollouts = open_rollouts(members, study, out)
    do(console, execution, study, members, rollouts)
    if todo or rollouts:
        more = f" and {len(rollouts)} rollouts" if rollouts else ""
        took = duration(time.perf_counter() - started)
        console.print(f"{len(todo)} runs{more} executed in {took}", highlight=False)
    else:
        console.print("nothing to execute: every run is done or has failed before", highlight=False)


def do(
    console: Console,
    execution: Execution,
    study: StudyConfig,
    members: Sequence["Member"],
    tasks: Sequence["Task"],
    deadline: float | None = None,
) -> None:
    """Do tasks by a launcher, or here under a progress bar; here until a ``deadline``, see ``execute``."""
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from anyorder.bars import progress_bars
    from anyorder.studies.execution import execute
    from anyorder.studies.launchers import launch

    if not tasks:
        return
    if execution.launcher != LOCAL and not tasks[0].success:
        launch(execution)
        return
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with progress_bars(*columns, console=console) as bar:
        task = bar.add_task("rollouts" if tasks[0].success else "runs", total=len(tasks), left="")

        def show(done: int, seconds: float | None) -> None:
            bar.update(task, completed=done, left="" if seconds is None else f"{duration(seconds)} left")

        failed = execute(execution, study, members, tasks, show, deadline)
    for name, message in failed.items():
        console.print(f"failed: {name}: {message}", markup=False, highlight=False)


def plan(members: Sequence["Member"], processes: int, console: Console) -> None:
    """Print what the study would do."""
    from anyorder.reports.studies import plan_line, plan_table

    console.print(rich_table(plan_table(members)))
    console.print(plan_line(members, processes), highlight=False)


def status(execution: Execution, console: Console) -> None:
    """Print where a study stands, by family."""
    from anyorder.reports.studies import state_table
    from anyorder.studies.collect import read_study, seconds_left, standings

    out = execution.folder
    found = standings(out, read_study(out).members)
    console.print(rich_table(state_table(found)))
    left = seconds_left(found, execution.processes)
    if left:
        line = f"about {duration(left)} left on {execution.processes} processes"
        console.print(f"{line}; the same `anyorder study run ...` continues", highlight=False)
    elif failed := failures(out, [s.member.id for s in found]):
        console.print(failed, markup=False, highlight=False)
    else:
        words = shlex.quote(f"out={execution.out}")
        console.print(f"complete; next: anyorder study collect {words}", markup=False, soft_wrap=True)


def failures(out: Path, runs: Sequence[str]) -> str | None:
    """Return how many runs failed and why the first did; None where none did."""
    from anyorder.reports.studies import failures_line

    failed = failed_runs(out, runs)
    if not failed:
        return None
    return failures_line(failed, len(runs), read_json(run_folder(out, failed[0]) / ERROR).get("error"))


def collect(execution: Execution, console: Console) -> None:
    """Write ``runs.parquet``."""
    from anyorder.studies.collect import read_study, table, write_table

    rows = table(execution.out)
    if not rows:
        raise UserError("runs that are done", 0, "at least one: anyorder study run")
    path = execution.folder / "runs.parquet"
    with owned(path, "out"):
        write_table(rows, path)
    planned = len(read_study(execution.out).members)
    missing = f" ({planned - len(rows)} of {planned} are missing)" if planned > len(rows) else ""
    console.print(f"{path}: {len(rows)} runs{missing}", markup=False, highlight=False)
    next_words = f"next: anyorder fit {shlex.quote(f'runs={path}')} loss=loss_final    # or loss=loss_best"
    console.print(next_words, markup=False, highlight=False, soft_wrap=True)
