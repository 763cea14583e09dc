"""One run of a study: training over token epochs, scored along the way and at its end."""

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import CheckpointError, DatasetError, DivergedError
from anyorder.files import Words, sweep, write_json
from anyorder.policies import AnyOrderPolicy
from anyorder.settings import checked, to_plain
from anyorder.studies.data import Inputs, StudyData, token_epochs
from anyorder.studies.files import ERROR, PROGRESS, RESULT, SETTINGS, STATE, WEIGHTS, read_file
from anyorder.studies.grid import RunSettings
from anyorder.studies.score import score_inputs
from anyorder.tensors import read_tensors, write_tensors
from anyorder.training.evaluate import evenly_spread
from anyorder.training.learner import Learner
from anyorder.training.optimizer import Schedule
from anyorder.training.watch import check_trained

SAVE_S, PROGRESS_S = 60.0, 5.0
"""Seconds between states that a killed run continues from, and between signs of life."""
SCORE_SEED = 0
"""Seed of the draws that score a run: the same for all, so that what differs between two runs is the runs."""
STATE_FIELDS = {"step": int, "history": list[dict[str, Any]], "seconds": tuple[float, float]}
"""What the state of a run says beside its tensors."""


@dataclass(frozen=True)
class HeldOut:
    """What every run of a study is scored on."""

    validation: Inputs
    test: Inputs

    @classmethod
    def of(cls, data: StudyData, chunks: int, test_chunks: int) -> "HeldOut":
        """Take evenly spread chunks of the held-out episodes."""
        return cls(
            data.inputs(data.validation, evenly_spread(data.validation.frames, chunks)),
            data.inputs(data.test, evenly_spread(data.test.frames, test_chunks)),
        )


class Training:
    """A run under way; everything random is a function of (seed, step), so one that was killed ends like any other.

    It learns as by ``anyorder train``; the cosine ends with the run.
    """

    def __init__(self, settings: RunSettings, data: StudyData) -> None:
        self.settings = settings
        chunks = data.subset(settings.unique_frames, settings.seed)
        self.inputs = data.inputs(chunks)
        self.visits = token_epochs(chunks, settings.epochs, settings.seed)
        self.steps = -(-len(self.visits.rows) // settings.batch_size)
        torch.manual_seed(settings.seed)
        policy = data.policy(settings.factorization, settings.network, settings.encoder, settings.head)
        schedule = Schedule(settings.optimizer, self.steps, settings.seed)
        self.learner = Learner.of(policy, schedule, self.loss)
        self.moments = {
            -(-self.visits.ends[epoch - 1] // settings.batch_size): epoch
            for epoch in settings.evaluation.epochs(settings.epochs)
        }
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.wall_s = self.cpu_s = 0.0

    @property
    def averaged(self) -> AnyOrderPolicy:
        """The policy with its averaged weights, which are scored."""
        return self.learner.averaged

    def loss(self, policy: AnyOrderPolicy, batch: slice, *, generator: torch.Generator, progress: float) -> Tensor:
        """Return the loss of some visits; a chunk's counts by the share of its actions that do."""
        rows, weights = self.visits.rows[batch], self.visits.weights[batch]
        context = self.inputs.context(policy, rows)
        losses = policy.losses(self.inputs.codes[rows], context, generator=generator, progress=progress)
        return (losses * weights).sum() / self.settings.batch_size

    def advance(self) -> None:
        """Take one step."""
        size = self.settings.batch_size
        try:
            self.learner.advance(slice(self.step * size, (self.step + 1) * size), self.step)
        except DivergedError as error:
            raise DivergedError(f"step {self.step + 1}: {error}; try a lower optimizer.lr") from error
        self.step += 1

    def validate(self, held_out: HeldOut) -> None:
        """Score the moment, and keep the weights of the best one.

        Raises:
            DivergedError: a weight or the score is not finite.
        """
        check_trained(self.averaged)
        found = score_inputs(self.averaged, held_out.validation, draws=self.settings.evaluation.draws, seed=SCORE_SEED)
        if not math.isfinite(found.nll):
            raise DivergedError(f"NLL at step {self.step}", found.nll, "finite: try a lower optimizer.lr")
        best = min((moment["nll"] for moment in self.history), default=float("inf"))
        self.history.append({"epoch": self.moments[self.step], "step": self.step, **asdict(found)})
        if found.nll < best:
            self.best = {name: p.detach().clone() for name, p in self.averaged.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write all that continuing needs."""
        best = {f"best/{name}": value for name, value in self.best.items()}
        seconds = [self.wall_s, self.cpu_s]
        write_tensors(
            path, self.learner.state() | best, {"step": self.step, "history": self.history, "seconds": seconds}
        )

    def sign_of_life(self, folder: Path) -> None:
        """Tell how much is done, and the seconds it took."""
        write_json(folder / PROGRESS, {"share": self.step / self.steps, "wall_s": self.wall_s})

    def load(self, path: Path) -> None:
        """Continue from what ``save`` wrote.

        Raises:
            CheckpointError: the file is damaged, or of another run.
        """
        tensors, facts = read_tensors(path)
        facts = checked(STATE_FIELDS, facts, path, CheckpointError)
        try:
            self.learner.load_state(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            allowed = f"a state of this run ({str(error).splitlines()[0][:160]})"
            raise CheckpointError("state", str(path), allowed) from error
        prefix = "best/"
        self.best = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        self.step, self.history = facts["step"], facts["history"]
        self.wall_s, self.cpu_s = facts["seconds"]


def run_member(
    settings: RunSettings, data: StudyData, held_out: HeldOut, folder: Path, save_s: float = SAVE_S
) -> dict[str, Any]:
    """Train a run, or continue it, and write its result to its folder; one that has a result is left alone.

    Its state is saved every ``save_s`` seconds. Returns the result: losses in nats per action token, history, seconds.

    Raises:
        DatasetError: the data is not what the run was planned with.
    """
    if (folder / RESULT).is_file():
        return read_file(folder / RESULT)
    if settings.data != data.fingerprint:
        allowed = "as when the study was written, which another out=... studies anew"
        raise DatasetError("the study's dataset", Words("something else"), allowed)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder / "*")
    write_json(folder / SETTINGS, to_plain(settings))
    wall, cpu = time.perf_counter(), time.process_time()
    training = Training(settings, data)
    if (folder / STATE).is_file():
        try:
            training.load(folder / STATE)
        except CheckpointError as error:
            # Nothing but time is lost: the run ends in the same result.
            logging.getLogger(__name__).warning("%s; the run begins anew", error)
            (folder / STATE).unlink()
            training = Training(settings, data)
    before = training.wall_s, training.cpu_s
    saved = told = wall
    training.sign_of_life(folder)
    while training.step < training.steps:
        training.advance()
        if training.step in training.moments:
            training.validate(held_out)
        now = time.perf_counter()
        training.wall_s, training.cpu_s = before[0] + now - wall, before[1] + time.process_time() - cpu
        if now - told > PROGRESS_S:
            told = now
            training.sign_of_life(folder)
        if now - saved > save_s:
            saved = now
            training.save(folder / STATE)
    if settings.keep_weights != "none":
        weights = training.averaged.state_dict() if settings.keep_weights == "final" else training.best
        write_tensors(folder / WEIGHTS, weights)
    result = scores(training, held_out)
    result["wall_s"] = before[0] + time.perf_counter() - wall
    result["cpu_s"] = before[1] + time.process_time() - cpu
    write_json(folder / RESULT, result)
    for name in (STATE, PROGRESS, ERROR):
        (folder / name).unlink(missing_ok=True)
    return result


def scores(training: Training, held_out: HeldOut) -> dict[str, Any]:
    """Return a finished run's scores: ``final`` at its end, ``best`` where its validation NLL was lowest."""
    evaluation, policy = training.settings.evaluation, training.averaged
    moments = {"final": training.history[-1], "best": min(training.history, key=lambda m: m["nll"])}
    learnt = training.inputs.rows(evenly_spread(len(training.inputs.codes), evaluation.chunks))
    result: dict[str, Any] = {
        "steps": training.steps,
        "exact": policy.factorization.exact,
        "train_nll": score_inputs(policy, learnt, draws=evaluation.draws, seed=SCORE_SEED).nll,
    }
    test = score_inputs(policy, held_out.test, draws=evaluation.test_draws, seed=SCORE_SEED)
    for name, moment in moments.items():
        if moment is not training.history[-1]:
            policy.load_state_dict(training.best)
            test = score_inputs(policy, held_out.test, draws=evaluation.test_draws, seed=SCORE_SEED)
        result[f"loss_{name}"], result[f"loss_{name}_se"] = moment["nll"], moment["se"]
        result[f"test_{name}"], result[f"test_{name}_se"] = test.nll, test.se
        result[f"epochs_{name}"] = moment["epoch"]
    result["test_draws_se"] = test.draws_se
    result["history"] = training.history
    return result
