"""How a study's runs are executed: where, by how many processes, and how often one that fails is tried again."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anyorder.errors import MAX_COUNT, ConfigError
from anyorder.settings import Settings, setting
from anyorder.studies import workers
from anyorder.studies.collect import seconds_left, standings
from anyorder.studies.config import StudyConfig
from anyorder.studies.files import ERROR, is_open, run_folder
from anyorder.studies.grid import Member
from anyorder.studies.workers import Task

LOCAL = "local"
"""This launcher starts processes on this machine."""
LOOK_S = 2.0
"""Two looks at where the runs stand are this many seconds apart."""


@dataclass
class Execution(Settings):
    """How the runs of a study are executed; none of it changes what they give."""

    out: str = setting("outputs/study", "The study's folder.")
    workers: int = setting(0, "Processes, one thread each; all cores when 0.", least=0, most=MAX_COUNT)
    retries: int = setting(1, "Further tries of a run that fails.", least=0, most=MAX_COUNT)
    retry_failed: bool = setting(False, "Try again what failed in an earlier call.")
    launcher: str = setting(LOCAL, "local, or one of Hydra's: basic, joblib, submitit_local, submitit_slurm.")
    jobs: int = setting(1, "Jobs of a launcher.", least=1, most=MAX_COUNT)
    launcher_options: dict[str, str] = setting({}, "Settings of a launcher, as partition=gpu.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.launcher == LOCAL and self.launcher_options:
            raise ConfigError("launcher_options", self.launcher_options, "none with launcher=local")

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return Path(self.out)

    @property
    def processes(self) -> int:
        """How many runs go on at once."""
        if self.launcher != LOCAL:
            return self.jobs
        return self.workers or os.cpu_count() or 1


def open_runs(members: Sequence[Member], execution: Execution) -> list[Task]:
    """Return what is left to train, with what failed before where it shall be tried again."""
    out = execution.folder
    if execution.retry_failed:
        for m in members:
            (run_folder(out, m.id) / ERROR).unlink(missing_ok=True)
    return [Task(m) for m in members if is_open(out, m.id)]


def execute(
    execution: Execution,
    study: StudyConfig,
    members: Sequence[Member],
    tasks: Sequence[Task],
    show: Callable[[int, float | None], None],
    deadline: float | None = None,
) -> dict[str, str]:
    """Do tasks of one kind in processes on this machine; returns what went wrong, by the run's id.

    ``members`` are all runs of the study, which tell how fast they are. ``show`` is called now and then with how many
    tasks are done, and how many seconds are left; None of rollouts. What still goes on at a ``deadline`` of
    ``time.perf_counter()`` is stopped, and continues another time.
    """
    out, looked = execution.folder, 0.0

    def look() -> None:
        nonlocal looked
        if time.perf_counter() - looked < LOOK_S:
            return
        looked = time.perf_counter()
        done = sum((run_folder(out, t.member.id) / t.result).is_file() for t in tasks)
        seconds = None
        if not tasks[0].success:
            seconds = seconds_left(standings(out, members), execution.processes)
            if deadline is not None:
                seconds = max(0.0, min(seconds, deadline - time.perf_counter()))
        show(done, seconds)

    failed = workers.work(study, out, tasks, execution.processes, execution.retries, look, deadline)
    looked = 0.0
    look()
    return failed
