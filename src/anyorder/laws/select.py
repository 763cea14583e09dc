"""Which law the runs ask for, by runs held out of the fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anyorder.laws.config import FitConfig
from anyorder.laws.fit import Fit, fit, predicted
from anyorder.laws.intervals import refit
from anyorder.laws.law import LAWS
from anyorder.laws.runs import Runs
from anyorder.laws.solve import huber

FOLDS = 10
"""Runs are held out in this many parts."""


@dataclass(frozen=True)
class CrossValidated:
    """How a law predicts runs it was not fitted to.

    Attributes:
        law: its name.
        fits: the law fitted to all runs.
        loss: mean Huber loss of ln L over held-out runs.
        error: standard error of its excess over the best law's, over runs.
        median: median of \\|ln L predicted - ln L\\|, about the relative error.
    """

    law: str
    fits: tuple[Fit, ...]
    loss: float
    error: float
    median: float


def held_out_residuals(fits: Sequence[Fit], folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Return ln L predicted minus measured of every run, (runs,), each from a fit that left out its fold."""
    parts = []
    for one in fits:
        random = np.random.default_rng(seed)
        fold = np.empty(len(one.runs), dtype=int)
        for family in one.families:
            mine = np.flatnonzero(one.runs.factorization == family)
            fold[mine] = random.permutation(len(mine)) % folds
        constants = refit(one, (fold != np.arange(folds)[:, None]).astype(float))
        every = np.stack([predicted(one.runs, c) for c in constants])
        parts.append(np.log(every[fold, np.arange(len(fold))]) - np.log(one.runs.loss))
    return np.concatenate(parts)


def compare_laws(
    runs: Runs, config: FitConfig, laws: Sequence[str] = tuple(LAWS), seed: int = 0
) -> list[CrossValidated]:
    """Fit several laws and score each by ten-fold held-out runs, in the order given.

    The folds are drawn at random, so this says how a law fills gaps between runs, not how far it extrapolates.
    """
    fitted = {law: tuple(fit(runs, replace(config, law=law))) for law in laws}
    residuals = {law: held_out_residuals(fits, seed=seed) for law, fits in fitted.items()}
    losses = {law: huber(r) for law, r in residuals.items()}
    best = min(losses, key=lambda law: float(losses[law].mean()))
    return [
        CrossValidated(
            law,
            fitted[law],
            float(losses[law].mean()),
            float((losses[law] - losses[best]).std(ddof=1) / np.sqrt(len(runs))),
            float(np.median(np.abs(residuals[law]))),
        )
        for law in laws
    ]


def simplest(scores: Sequence[CrossValidated]) -> CrossValidated:
    """Return the law with the fewest constants whose held-out loss is within one standard error of the lowest."""
    lowest = min(score.loss for score in scores)
    good = [score for score in scores if score.loss <= lowest + score.error]
    return min(good, key=lambda score: (len(LAWS[score.law].free), score.loss))
