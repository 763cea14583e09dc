"""Processes that live for a whole study: each loads the data once, then trains one run after the other."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from anyorder.errors import no_room, system_failure
from anyorder.files import write_json
from anyorder.processes import Child
from anyorder.studies.config import StudyConfig
from anyorder.studies.files import ERROR, RESULT, SUCCESS, run_folder
from anyorder.studies.grid import Member

MOST_STARTS = 5
"""A study ends when this many processes have died before they did anything."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Something to do with a run: to train it, or, for its ``success``, to roll it out."""

    member: Member
    success: bool = False

    @property
    def result(self) -> str:
        """Name of the file that is there when it is done."""
        return SUCCESS if self.success else RESULT


class Session:
    """What a process of a study holds: the data, and what runs are scored on."""

    def __init__(self, config: StudyConfig, out: Path) -> None:
        import torch

        from anyorder.studies.data import StudyData
        from anyorder.studies.run import HeldOut

        torch.set_num_threads(1)
        self.config, self.out = config, out
        self.data = StudyData(config)
        scored = config.evaluation
        self.held_out = HeldOut.of(self.data, scored.chunks, scored.test_chunks)

    def do(self, task: Task) -> str | None:
        """Do a task; returns what went wrong, or None, and leaves the same on disk.

        Raises:
            Exception: the disk takes nothing more; that is no fault of this run.
        """
        from anyorder.studies.run import run_member
        from anyorder.studies.success import roll_out

        folder = run_folder(self.out, task.member.id)
        try:
            if task.success:
                roll_out(task.member, self.data, self.config.success, folder)
            else:
                run_member(task.member.settings, self.data, self.held_out, folder)
        except Exception as error:  # one run's failure must not end the others
            if no_room(error):
                raise
            return f"{type(error).__name__}: {error}"
        return None


def serve(pipe: Connection, config: StudyConfig, out: Path) -> None:
    """Do the tasks that come through the pipe until it closes; tell what went wrong, and whether it ends the study."""
    session = Session(config, out)
    pipe.send("ready")
    while True:
        task = pipe.recv()
        try:
            pipe.send((session.do(task), False))
        except Exception as error:
            pipe.send((system_failure(error), True))


class Worker(Child):
    """A process and the task it has."""

    def __init__(self, config: StudyConfig, out: Path) -> None:
        super().__init__(serve, config, out)
        self.ready = False
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        """Hand a task over."""
        self.task = task
        self.pipe.send(task)


def work(
    config: StudyConfig,
    out: Path,
    tasks: Iterable[Task],
    workers: int,
    retries: int,
    progress: Callable[[], None],
    deadline: float | None = None,
) -> dict[str, str]:
    """Do all tasks, the costliest first; returns what went wrong, by the run's id.

    One that fails, or whose process dies, gets ``retries`` further tries and is then recorded in ``out``. ``progress``
    is called twice a second, and after each task. Until a ``deadline`` of ``time.perf_counter()`` tasks are done in
    the order given, which decides what it cuts off; what still goes on then is stopped, and continues another time.

    Raises:
        RuntimeError: processes die before they do anything.
        OSError: the disk takes nothing more.
    """
    waiting = list(tasks)[::-1]
    if deadline is None:
        waiting.sort(key=lambda task: task.member.estimated_s)
    tries: dict[str, int] = {}
    failed: dict[str, str] = {}
    starts_in_vain = 0
    team = [Worker(config, out) for _ in range(min(workers, len(waiting)))]

    def settle(task: Task, message: str) -> None:
        run = task.member.id
        tries[run] = tries.get(run, 0) + 1
        if tries[run] <= retries:
            _log.warning("%s is tried again: %s", run, message)
            waiting.append(task)
        else:
            failed[run] = message
            write_json(run_folder(out, run) / ERROR, {"error": message, "tries": tries[run]})

    try:
        while waiting or any(worker.task for worker in team):
            if deadline is not None and time.perf_counter() >= deadline:
                break
            for worker in team:
                if worker.ready and worker.task is None and waiting:
                    worker.give(waiting.pop())
            ends: dict[Any, Worker] = {worker.pipe: worker for worker in team}
            for pipe in wait(list(ends), timeout=0.5):
                worker = ends[pipe]
                try:
                    message = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    worker.stop()
                    team.remove(worker)
                    if worker.task is not None:
                        settle(worker.task, f"its process died, exit status {worker.process.exitcode}")
                    else:
                        starts_in_vain += not worker.ready
                        if starts_in_vain >= MOST_STARTS:
                            raise RuntimeError("the study's processes die before they do anything") from None
                    team.append(Worker(config, out))
                    continue
                if message == "ready":
                    worker.ready = True
                    continue
                if message[1]:
                    raise OSError(message[0])
                task, worker.task = worker.task, None
                if task is not None and message[0] is not None:
                    settle(task, message[0])
            progress()
    finally:
        for worker in team:
            worker.stop()
    return failed
