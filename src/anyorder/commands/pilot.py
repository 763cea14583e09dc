"""``anyorder advise pilot=MINUTES``: a small study of the user's own data in a time budget, and its laws."""

import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from anyorder.bars import duration
from anyorder.commands.fit import FitCommandConfig, fit_table, print_files
from anyorder.commands.study import (
    StudyCommandConfig,
    check_place,
    execute,
    in_words,
    plan,
)
from anyorder.errors import ConfigError, UserError
from anyorder.files import digest, read_json, write_json
from anyorder.studies.pilot import LEAST_RUNS, MARGIN

if TYPE_CHECKING:
    from anyorder.commands.advise import AdviseConfig
    from anyorder.datasets.read.folder import DatasetInfo
    from anyorder.studies.grid import Member

FIT, TABLE, PROMISE = "fit", "runs.parquet", "named.json"
"""What a pilot's folder holds beside its study."""
PATIENCE = 3.0
"""Times its estimate that a plan may take for which the time asked was named as enough."""
LOSS = "loss_best"
"""Early stopping: what those who use ``anyorder train`` follow."""


def run_pilot(config: "AdviseConfig", console: Console) -> Path:
    """Run a pilot within its budget and fit laws to it; one that was killed goes on.

    Returns:
        The folder with its laws.

    Raises:
        UserError: the dataset cannot be studied, the question lies far outside what the pilot can reach, or too few
            runs fit its time.
    """
    started = time.perf_counter()
    fitted = FitCommandConfig(
        runs=str(Path(config.pilot_out) / TABLE), out=str(free_folder(config)), loss=LOSS, law="auto"
    )
    info = dataset_of(config)
    with console.status("reading the dataset"):
        pilot = Pilot(config, info, started)
    levels = ", ".join(f"{u:,.0f}" for u in sorted({m.unique_tokens for m in pilot.grid}))
    console.print(
        f"pilot of {pilot.minutes:g} minutes on {pilot.processes} cores: {in_words(pilot.data)}; U = {levels}",
        highlight=False,
    )
    if info.cameras:
        console.print(f"it reads numbers alone, not {', '.join(info.cameras)}", markup=False, highlight=False)
    pilot.calibrate(console)
    pilot.train(console)
    pilot.collect(console)
    fit_table(fitted, console)
    print_files(fitted, console)
    return Path(fitted.out)


def free_folder(config: "AdviseConfig") -> Path:
    """Return the folder the laws will be in; what a kill left of an unfinished fit is removed.

    Raises:
        ConfigError: laws are there already, or ``pilot_out`` is no folder.
    """
    from anyorder.laws.laws_file import LAWS_FILE
    from anyorder.studies.files import STUDY

    out, folder = Path(config.pilot_out), Path(config.pilot_out) / FIT
    check_place("pilot_out", out)
    if (folder / LAWS_FILE).is_file() or (folder.exists() and not (out / STUDY).is_file()):
        allowed = (
            f"a folder without {FIT}/: laws={folder} asks that pilot again, another pilot_out=... makes one"
        )
        raise ConfigError("pilot_out", config.pilot_out, allowed)
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def dataset_of(config: "AdviseConfig") -> "DatasetInfo":
    """Return the dataset, one that models of a study can read."""
    from anyorder.commands.advise import dataset_info
    from anyorder.datasets.read.chunks import OBSERVATION

    assert config.dataset is not None
    info = dataset_info(config.dataset, config.rename)
    if not any(name.startswith(OBSERVATION) for name in info.vectors):
        allowed = "one with observations of numbers, as observation.state: a pilot reads no cameras"
        raise ConfigError("dataset", config.dataset, allowed)
    return info


class Pilot:
    """A pilot under way.

    Its state is what lies in its folder: runs count by the time they took, also those that a kill ended, so one that
    goes on spends what is left of its budget.

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

    def __init__(self, config: "AdviseConfig", info: "DatasetInfo", started: float) -> None:
        from anyorder.studies.data import StudyData
        from anyorder.studies.grid import expand
        from anyorder.studies.pilot import grids, study_config

        assert config.pilot is not None
        self.config, self.minutes = config, config.pilot
        self.out = Path(config.pilot_out)
        self.processes = config.workers or os.cpu_count() or 1
        study = study_config(str(info.root), info.total_episodes, config.validation_fraction)
        study.dataset.observations, study.dataset.rename = config.observations, config.rename
        self.data = StudyData(study)
        self.study = replace(study, grids=grids(self.data.unique_tokens))
        self.grid = expand(self.study, self.data)
        self.check_folder()
        check_asked(config, self.grid, "what a pilot of this dataset can train", timed=False)
        # Processes read the data, too; calibration tells how long all of it takes.
        self.start_s = time.perf_counter() - started
        self.look()
        self.deadline = started + 60 * self.minutes - self.trained_s / self.processes

    def check_folder(self) -> None:
        """Refuse a folder that holds another study."""
        from anyorder.studies.collect import read_study
        from anyorder.studies.files import STUDY

        if (self.out / STUDY).is_file():
            there = {member["id"] for member in read_study(self.out)["members"]}
            if not there <= {m.id for m in self.grid}:
                allowed = "a new folder, as another study, or a pilot of other data, is there"
                raise ConfigError("pilot_out", self.config.pilot_out, allowed)

    def look(self) -> None:
        """See which runs are done, which have failed, and what that tells of the others."""
        from anyorder.studies.collect import standings
        from anyorder.studies.grid import as_plain
        from anyorder.studies.pilot import corrected

        found = standings(self.out, [as_plain(m) for m in self.grid])
        self.took = {s.member["id"]: s.took_s for s in found if s.took_s is not None}
        self.failed = [s.member["id"] for s in found if s.state == "failed"]
        self.trained_s = sum(s.spent_s for s in found)
        self.members = corrected(self.grid, self.took)

    def calibrate(self, console: Console) -> None:
        """Train a few cheap runs, which tell how fast this machine is, unless two of each family have told it.

        Raises:
            UserError: none of them can be trained.
        """
        from anyorder.studies.pilot import CALIBRATION, calibration, makespan

        told = [m.family for m in self.grid if m.id in self.took]
        chosen = self.open(calibration(self.grid, CALIBRATION * 60 * self.minutes, self.processes))
        if not chosen or all(told.count(m.family) > 1 for m in self.grid):
            return
        console.print(f"{len(chosen)} cheap runs tell how fast this machine is", highlight=False)
        began = time.perf_counter()
        self.execute(chosen, console)
        took = [self.took[m.id] for m in chosen if m.id in self.took]
        self.start_s = max(0.0, time.perf_counter() - began - makespan(took, self.processes))
        if self.failed and not self.took:
            raise self.cannot_learn(self.failed[0])

    def train(self, console: Console) -> None:
        """Train as much as fits the time, then see whether there is time for more.

        Raises:
            UserError: too little fits for laws, or for the question.
        """
        from anyorder.studies.pilot import cells

        chosen, families = self.fitting(), {m.family for m in self.grid}
        reached = self.reached(chosen)
        if (count := sum(len(cell) == len(families) for cell in cells(reached))) < LEAST_RUNS:
            if not self.minutes >= self.named():
                raise self.too_short(f"{count} runs of each family fit")
            chosen = self.keep_promise(console)
            reached = self.reached(chosen)
        check_asked(self.config, reached, f"the runs of a pilot of {self.minutes:g} minutes")
        if chosen:
            plan(chosen, self.processes, console)
        while chosen:
            self.execute(chosen, console)
            if chosen := self.fitting():
                console.print(f"there is time for {len(chosen)} more", highlight=False)

    def reached(self, chosen: Sequence["Member"]) -> list["Member"]:
        """Return what is done once these are."""
        ids = {m.id for m in chosen} | set(self.took)
        return [m for m in self.members if m.id in ids]

    def named(self) -> float:
        """Return the minutes that this pilot has named as enough; infinite before it has."""
        path = self.out / PROMISE
        told = read_json(path) if path.is_file() else {}
        same = told.get("runs") == digest(sorted(m.id for m in self.grid))
        return float(told["minutes"]) if same else math.inf

    def keep_promise(self, console: Console) -> list["Member"]:
        """Return what is left to train of the cheapest plan, and leave it the time it takes on a slower machine."""
        from anyorder.studies.pilot import cheapest, grids, least_seconds

        least = least_seconds(self.members, self.processes, self.took, self.failed)
        planned = cheapest(self.members, self.failed)
        limit = max((m.flops for m in planned), default=0.0)
        self.study = replace(self.study, grids=grids(self.data.unique_tokens, limit))
        took = duration(self.spent_s + self.start_s + least)
        self.extra_s = max(0.0, time.perf_counter() + self.start_s + PATIENCE * least - self.deadline)
        console.print(
            f"this machine is slower than when the time was named: about {took} in all", highlight=False
        )
        return self.open(planned)

    def fitting(self) -> list["Member"]:
        """Return what is left to train of the largest plan that fits the time left, the cheapest first."""
        from anyorder.studies.pilot import grids, largest, within

        left = (1 - MARGIN) * (self.deadline - time.perf_counter() - self.start_s)
        limit = largest(self.members, left, self.processes, {*self.took, *self.failed})
        self.study = replace(self.study, grids=grids(self.data.unique_tokens, limit))
        return self.open(within(self.members, limit))

    def open(self, members: Sequence["Member"]) -> list["Member"]:
        """Return those that are neither done nor failed."""
        return [m for m in members if m.id not in self.took and m.id not in self.failed]

    def execute(self, chosen: Sequence["Member"], console: Console) -> None:
        """Train runs, until the deadline."""
        from anyorder.settings import to_plain
        from anyorder.studies.collect import data_facts, write_study
        from anyorder.studies.workers import Task

        ids = {m.id for m in chosen} | set(self.took)
        members = [m for m in self.members if m.id in ids]
        write_study(self.out, to_plain(self.study), data_facts(self.data), members)
        of_study = {f.name: getattr(self.study, f.name) for f in fields(self.study)}
        command = StudyCommandConfig(**of_study, action="run", out=str(self.out), workers=self.processes)
        deadline = self.deadline + self.extra_s
        execute(command, self.study, members, [Task(m) for m in chosen], console, deadline)
        self.look()

    def collect(self, console: Console) -> None:
        """Write the table of what is done.

        Raises:
            UserError: too little is, as time was short or runs failed.
        """
        from anyorder.studies.collect import read_study, table, write_table

        rows = table(self.out)
        done = [row["factorization"] for row in rows]
        family = min(dict.fromkeys(m.family for m in self.grid), key=done.count)
        if (fewest := done.count(family)) < LEAST_RUNS:
            failed = [m.id for m in self.grid if m.family == family and m.id in self.failed]
            if fewest + len(failed) >= LEAST_RUNS:
                raise self.cannot_learn(failed[0])
            raise self.too_short(f"{fewest} runs of {family} were finished")
        write_table(rows, self.out / TABLE)
        missing = len(read_study(self.out)["members"]) - len(rows)
        more = f" ({missing} more were not finished in time)" if missing else ""
        told = f"{self.out / TABLE}: {len(rows)} runs{more} in {duration(self.spent_s)}"
        console.print(told, markup=False, highlight=False)

    def cannot_learn(self, run: str) -> UserError:
        """Return the error of a pilot that cannot go on as runs fail, with the reason of one."""
        from anyorder.studies.files import ERROR, run_folder

        path = run_folder(self.out, run) / ERROR
        allowed = f"one that models can learn: {read_json(path)['error']} (without {path} it is tried again)"
        return UserError("dataset", self.config.dataset, allowed)

    @property
    def spent_s(self) -> float:
        """Seconds of the budget that are gone."""
        return 60 * self.minutes - (self.deadline - time.perf_counter())

    def too_short(self, what: str) -> UserError:
        """Return the error of a pilot without the time that laws need, and how much that would be."""
        from anyorder.studies.pilot import least_seconds

        least = least_seconds(self.members, self.processes, self.took, self.failed)
        seconds = self.spent_s + self.start_s + least / (1 - MARGIN)
        minutes = max(math.ceil(seconds / 60), math.floor(self.minutes) + 1)
        # A busy machine takes another time every time it is asked: what was named once is enough.
        minutes = int(min(minutes, self.named())) if self.minutes < self.named() else minutes
        ids = sorted(m.id for m in self.grid)
        write_json(self.out / PROMISE, {"minutes": minutes, "runs": digest(ids)})
        guess = "" if self.took else " (a guess, as no run was timed)"
        allowed = (
            f"about {minutes} or more{guess}, as {what} and laws take {LEAST_RUNS}; what is done is kept in "
            f"{self.out}"
        )
        return UserError("pilot", self.minutes, allowed)


def check_asked(config: "AdviseConfig", members: Sequence["Member"], what: str, timed: bool = True) -> None:
    """Refuse a question that the laws of these runs would not answer, before the time is spent.

    Args:
        config: asks.
        members: the runs there will be.
        what: they are.
        timed: ``estimated_s`` is of this machine, so that minutes can be told in FLOPs.
    """
    import numpy as np

    from anyorder.laws.advise import FAR, outside
    from anyorder.laws.facts import dearest_speed

    if config.extrapolate or (config.flops is None and config.flops_per_s is None and not timed):
        return
    for family in dict.fromkeys(m.family for m in members):
        mine = [m for m in members if m.family == family]
        flops = np.array([m.flops for m in mine])
        low, high = float(flops.min()), float(flops.max())
        if config.flops is not None:
            name, value, per_unit = "flops", config.flops, 1.0
        else:
            assert config.minutes is not None
            speed = config.flops_per_s or dearest_speed(flops, np.array([m.estimated_s for m in mine]))
            name, value, per_unit = "minutes", config.minutes, 60 * speed
        if outside(value * per_unit, low, high) > FAR:
            allowed = (
                f"{low / FAR / per_unit:.2g} to {high * FAR / per_unit:.2g}: at most {FAR:g}x outside the {low:.2g} to "
                f"{high:.2g} FLOPs of {what}; extrapolate=true answers all the same"
            )
            raise UserError(name, value, allowed)
