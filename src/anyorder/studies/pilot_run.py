"""A pilot under way: what it has trained, what that tells of this machine, and what still fits its time."""

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from anyorder.datasets.read.chunks import OBSERVATION
from anyorder.datasets.read.episodes import Remedies
from anyorder.datasets.read.folder import DatasetInfo, named_info
from anyorder.errors import ConfigError, UserError
from anyorder.files import digest, read_json, write_json
from anyorder.laws.facts import top_speed
from anyorder.laws.laws_file import LAWS_FILE
from anyorder.laws.question import Question
from anyorder.settings import to_plain
from anyorder.studies import pilot as plans
from anyorder.studies.collect import data_facts, read_study, standings, table, write_study, write_table
from anyorder.studies.config import StudyConfig
from anyorder.studies.data import StudyData
from anyorder.studies.execution import Execution
from anyorder.studies.files import ERROR, STUDY, check_place, run_folder
from anyorder.studies.grid import Member, expand
from anyorder.studies.pilot import CALIBRATION, LEAST_RUNS, MARGIN
from anyorder.studies.workers import Task

FIT, TABLE, PROMISE = "fit", "runs.parquet", "named.json"
"""A pilot's folder holds these beside its study: its laws, its table, and the minutes it named as enough."""
REMEDIES = Remedies(
    "`lerobot-edit-dataset --operation.type=delete_episodes --operation.episode_indices='[{0}]'` leaves it out",
    "observations=[...] may name fewer features",
)
"""A pilot reads every episode of its dataset."""
PATIENCE = 3.0
"""A plan may take this many times its estimate where the time asked was named as enough."""

FASTER = 4.0
"""Expensive runs were up to this many times as fast, in FLOPs a second, as a pilot's cheap ones told."""

Execute = Callable[[Execution, StudyConfig, Sequence[Member], Sequence[Task], float], None]
"""Does tasks of a study with these members until a deadline of ``time.perf_counter()``."""


@dataclass(frozen=True)
class PilotConfig:
    """What a pilot is asked.

    Attributes:
        dataset: a folder, or a name on the hub.
        minutes: its budget.
        out: its folder.
        question: what its laws will be asked.
        workers: processes; all cores when 0.
        validation_fraction: share of the episodes that choose the best moment of a run.
        observations: features the models read; all of numbers when empty.
        rename: other names for features, by the dataset's own.
    """

    dataset: str
    minutes: float
    out: Path
    question: Question
    workers: int = 0
    validation_fraction: float = 0.1
    observations: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)


def families_of(members: Sequence[Member]) -> list[str]:
    """Return the families of runs, each once."""
    return list(dict.fromkeys(m.family for m in members))


def free_folder(out: Path) -> Path:
    """Return the folder the laws will be in; what a kill left of an unfinished fit is removed.

    Raises:
        ConfigError: laws are there already, or ``out`` is no folder.
    """
    folder = out / FIT
    check_place("pilot_out", out)
    if (folder / LAWS_FILE).is_file() or (folder.exists() and not (out / STUDY).is_file()):
        allowed = f"a folder without {FIT}/: laws={folder} asks that pilot again, another pilot_out=... makes one"
        raise ConfigError("pilot_out", str(out), allowed)
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def dataset_of(config: PilotConfig) -> DatasetInfo:
    """Return the dataset, one that models of a study can read."""
    info = named_info(config.dataset, config.rename)
    if not any(name.startswith(OBSERVATION) for name in info.vectors):
        allowed = "one with observations of numbers, as observation.state: a pilot reads no cameras"
        raise ConfigError("dataset", config.dataset, allowed)
    return info


class Pilot:
    """A pilot under way.

    Its state is what lies in its folder: runs count by the time they took, also those that a kill ended, so one that
    goes on spends what is left of its budget.

    Its time began at ``started`` of ``time.perf_counter()``.

    Attributes:
        grid: all runs that it may train, with what they are expected to take anywhere.
        took: seconds of those that are done, by id.
        trained_s: seconds spent on all of them so far.
        failed: ids of those that failed.
        members: the grid, with what runs take on this machine, as far as that is known.
        start_s: seconds until processes are ready to train.
        deadline: of ``time.perf_counter()``.
        extra_s: seconds beyond it that a time named as enough may still take.
    """

    extra_s = 0.0

    def __init__(self, config: PilotConfig, info: DatasetInfo, started: float) -> None:
        self.config, self.minutes, self.out = config, config.minutes, config.out
        self.processes = config.workers or os.cpu_count() or 1
        study = plans.study_config(str(info.root), info.total_episodes, config.validation_fraction)
        study.dataset.observations, study.dataset.rename = config.observations, config.rename
        self.data = StudyData(study, REMEDIES)
        self.study = replace(study, grids=plans.grids(self.data.unique_tokens))
        self.grid = expand(self.study, self.data)
        self.check_folder()
        self.check_reach(self.grid, "what a pilot of this dataset can train", timed=False)
        # Processes read the data, too; calibration tells how long all of it takes.
        self.start_s = time.perf_counter() - started
        self.look()
        self.deadline = started + 60 * self.minutes - self.trained_s / self.processes

    def check_folder(self) -> None:
        """Refuse a folder that holds another study."""
        if (self.out / STUDY).is_file():
            there = {member.id for member in read_study(self.out).members}
            if not there <= {m.id for m in self.grid}:
                allowed = "a new folder, as another study, or a pilot of other data, is there"
                raise ConfigError("pilot_out", str(self.out), allowed)

    def check_reach(self, members: Sequence[Member], what: str, timed: bool = True) -> None:
        """Refuse a question that the laws of these runs, called ``what``, would not answer, before the time is spent.

        Where they are ``timed``, ``estimated_s`` is of this machine, so that minutes can be told in FLOPs.
        """
        question = self.config.question
        if not timed and question.flops is None and question.flops_per_s is None:
            return
        flops = {family: np.array([m.flops for m in members if m.family == family]) for family in families_of(members)}
        ranges = {family: (float(values.min()), float(values.max())) for family, values in flops.items()}
        question.check_reach(ranges, self.speeds(members) if timed else {}, what)

    def speeds(self, members: Sequence[Member]) -> dict[str, float]:
        """Return by family the FLOPs a second that these runs may turn out to reach, at most.

        Of those that are done it is measured; the others are ``FASTER`` than estimated, to be on the safe side.
        """
        found = {}
        for family in families_of(members):
            mine = [m for m in members if m.family == family]
            seconds = [self.took.get(m.id, m.estimated_s / FASTER) for m in mine]
            found[family] = top_speed(np.array([m.flops for m in mine]), np.array(seconds))
        return found

    def look(self) -> None:
        """See which runs are done, which have failed, and what that tells of the others."""
        found = standings(self.out, self.grid)
        self.took = {s.member.id: s.took_s for s in found if s.took_s is not None}
        self.failed = [s.member.id for s in found if s.state == "failed"]
        self.trained_s = sum(s.spent_s for s in found)
        self.members = plans.corrected(self.grid, self.took)

    def calibration(self) -> list[Member]:
        """Return a few cheap runs that tell how fast this machine is; none where two of each family have told it."""
        told = [m.family for m in self.grid if m.id in self.took]
        if all(told.count(m.family) > 1 for m in self.grid):
            return []
        return self.open(plans.calibration(self.grid, CALIBRATION * 60 * self.minutes, self.processes))

    def calibrate(self, chosen: Sequence[Member], execute: Execute) -> None:
        """Train the runs of ``calibration`` and learn from them.

        Raises:
            UserError: none of them can be trained.
        """
        began = time.perf_counter()
        self.train(chosen, execute)
        took = [self.took[m.id] for m in chosen if m.id in self.took]
        self.start_s = max(0.0, time.perf_counter() - began - plans.makespan(took, self.processes))
        if self.failed and not self.took:
            raise self.cannot_learn(self.failed[0])

    def choose(self) -> tuple[list[Member], float | None]:
        """Return the runs that fit the time, and None.

        Instead of None it returns the seconds that the pilot will take in all where that is more than its time, as this
        machine is slower than when the time was named as enough.

        Raises:
            UserError: too little fits for laws.
        """
        chosen, families = self.fitting(), {m.family for m in self.grid}
        whole = [cell for cell in plans.cells(self.reached(chosen)) if len(cell) == len(families)]
        if len(whole) >= LEAST_RUNS:
            return chosen, None
        if not self.minutes >= self.named():
            raise self.too_short(f"{len(whole)} runs of each family fit")
        return self.keep_promise()

    def reached(self, chosen: Sequence[Member]) -> list[Member]:
        """Return what is done once these are."""
        ids = {m.id for m in chosen} | set(self.took)
        return [m for m in self.members if m.id in ids]

    def named(self) -> float:
        """Return the minutes that this pilot has named as enough; infinite before it has."""
        path = self.out / PROMISE
        told = read_json(path) if path.is_file() else {}
        same = told.get("runs") == digest(sorted(m.id for m in self.grid))
        return float(told["minutes"]) if same else math.inf

    def keep_promise(self) -> tuple[list[Member], float]:
        """Return what is left to train of the cheapest plan, and leave it the time it takes on a slower machine."""
        least = plans.least_seconds(self.members, self.processes, self.took, self.failed)
        planned = plans.cheapest(self.members, self.failed)
        limit = max((m.flops for m in planned), default=0.0)
        self.study = replace(self.study, grids=plans.grids(self.data.unique_tokens, limit))
        total_s = self.spent_s + self.start_s + least
        self.extra_s = max(0.0, time.perf_counter() + self.start_s + PATIENCE * least - self.deadline)
        return self.open(planned), total_s

    def fitting(self) -> list[Member]:
        """Return what is left to train of the largest plan that fits the time left, the cheapest first."""
        left = (1 - MARGIN) * (self.deadline - time.perf_counter() - self.start_s)
        limit = plans.largest(self.members, left, self.processes, {*self.took, *self.failed})
        self.study = replace(self.study, grids=plans.grids(self.data.unique_tokens, limit))
        return self.open(plans.within(self.members, limit))

    def open(self, members: Sequence[Member]) -> list[Member]:
        """Return those that are neither done nor failed."""
        return [m for m in members if m.id not in self.took and m.id not in self.failed]

    def train(self, chosen: Sequence[Member], execute: Execute) -> None:
        """Train runs, until the deadline."""
        members = self.reached(chosen)
        write_study(self.out, to_plain(self.study), data_facts(self.data), members)
        execution = Execution(str(self.out), self.processes)
        execute(execution, self.study, members, [Task(m) for m in chosen], self.deadline + self.extra_s)
        self.look()

    def collect(self) -> tuple[int, int]:
        """Write the table of what is done; returns how many runs are, and how many of those planned are not.

        Raises:
            UserError: too little is, as time was short or runs failed.
        """
        rows = table(self.out)
        done = [row["factorization"] for row in rows]
        family = min(dict.fromkeys(m.family for m in self.grid), key=done.count)
        if (fewest := done.count(family)) < LEAST_RUNS:
            failed = [m.id for m in self.grid if m.family == family and m.id in self.failed]
            if fewest + len(failed) >= LEAST_RUNS:
                raise self.cannot_learn(failed[0])
            raise self.too_short(f"{fewest} runs of {family} were finished")
        write_table(rows, self.out / TABLE)
        return len(rows), len(read_study(self.out).members) - len(rows)

    def cannot_learn(self, run: str) -> UserError:
        """Return the error of a pilot that cannot go on as runs fail, with the reason of one."""
        path = run_folder(self.out, run) / ERROR
        allowed = f"one that models can learn: {read_json(path)['error']} (without {path} it is tried again)"
        return UserError("dataset", self.config.dataset, allowed)

    @property
    def spent_s(self) -> float:
        """Seconds of the budget that are gone."""
        return 60 * self.minutes - (self.deadline - time.perf_counter())

    def too_short(self, what: str) -> UserError:
        """Return the error of a pilot without the time that laws need, and how much that would be."""
        least = plans.least_seconds(self.members, self.processes, self.took, self.failed)
        seconds = self.spent_s + self.start_s + least / (1 - MARGIN)
        minutes = max(math.ceil(seconds / 60), math.floor(self.minutes) + 1)
        # A busy machine takes another time every time it is asked: what was named once is enough.
        minutes = int(min(minutes, self.named())) if self.minutes < self.named() else minutes
        ids = sorted(m.id for m in self.grid)
        write_json(self.out / PROMISE, {"minutes": minutes, "runs": digest(ids)})
        guess = "" if self.took else " (a guess, as no run was timed)"
        allowed = (
            f"about {minutes} or more{guess}, as {what} and laws take {LEAST_RUNS}; what is done is kept in {self.out}"
        )
        return UserError("pilot", self.minutes, allowed)
