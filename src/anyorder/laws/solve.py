"""Many fits at once: one batched minimizer for starts, resamples and profiles.

The objective is the sum over runs of Huber(ln L_predicted - ln L, delta = 1e-3), as in arXiv 2305.16264. With
residuals far above delta it is nearly the absolute deviation, on which quasi-Newton methods with default
tolerances stop early. Here every step solves ``(J' W J + damping J' M J) step = -gradient``. W holds the
second derivatives of Huber's function (a Newton step), M = min(1, delta / abs(r)) its majorising weights
(iteratively reweighted least squares, which always descends for a linear model); the damping moves between
the two by success. Constants are fitted in logarithms.
"""

from dataclasses import dataclass

import numpy as np

from anyorder.laws.law import CONSTANTS, Array, log_loss
from anyorder.laws.runs import Runs

DELTA = 1e-3
"""Huber's function is quadratic below this residual of ln L, linear above."""
BOUNDS = {
    "A": (1e-12, 1e30),
    "B": (1e-12, 1e30),
    "alpha": (1e-3, 5.0),
    "beta": (1e-3, 5.0),
    "R_D": (1e-3, 1e12),
    "R_N": (1e-3, 1e12),
    "O": (1e-30, 1e12),
    "gamma": (1e-2, 20.0),
    "kappa": (1e-2, 20.0),
}
"""Constants are looked for between these; E between a millionth of the smallest loss and the largest."""
MAX_STEP = 1.5
"""No logarithm moves by more than this in one iteration."""


@dataclass(frozen=True)
class Problem:
    """Which logarithms are fitted to which runs.

    Attributes:
        runs: sorted by family.
        slots: (families, 10) index of the fitted variable a constant is, -1 where it is held. Constants that share an
            index are tied.
    """

    runs: Runs
    slots: np.ndarray

    @property
    def variables(self) -> int:
        """How many logarithms are fitted."""
        return int(self.slots.max()) + 1

    def bounds(self) -> Array:
        """Return the lowest and highest logarithm of each variable, (2, variables)."""
        loss = self.runs.loss
        limits = {**BOUNDS, "E": (1e-6 * loss.min(), loss.max())}
        edges = np.zeros((2, self.variables))
        for row in self.slots:
            for name, slot in zip(CONSTANTS, row, strict=True):
                if slot >= 0:
                    edges[:, slot] = np.log(limits[name])
        return edges

    def constants(self, x: Array, held: Array) -> Array:
        """Return the constants of every set, (sets, families, 10).

        Args:
            x: (sets, variables) logarithms.
            held: (sets, families, 10) or (families, 10), read where a constant is held.
        """
        full = np.broadcast_to(held, (len(x), *self.slots.shape)).copy()
        for family, row in enumerate(self.slots):
            free = row >= 0
            full[:, family, free] = np.exp(x[:, row[free]])
        return full

    def variables_of(self, constants: Array) -> Array:
        """Return the logarithms (sets, variables) of constants (sets, families, 10); the last of tied ones counts."""
        x = np.zeros((len(constants), self.variables))
        for family, row in enumerate(self.slots):
            free = row >= 0
            x[:, row[free]] = np.log(constants[:, family, free])
        return x

    def residuals(self, x: Array, held: Array, slopes: bool = True) -> tuple[Array, Array]:
        """Return ln L predicted minus measured (sets, runs), and its derivatives (sets, variables, runs)."""
        full = self.constants(x, held)
        measured = np.log(self.runs.loss)
        values = np.empty((len(x), len(measured)))
        jacobian = np.zeros((len(x), self.variables if slopes else 0, len(measured)))
        for family, name in enumerate(self.runs.families):
            mine = self.runs.factorization == name
            row = self.slots[family]
            wanted = tuple(np.flatnonzero(row >= 0).tolist()) if slopes else ()
            columns = (self.runs.params[mine], self.runs.tokens[mine], self.runs.unique_tokens[mine])
            predicted, by = log_loss(full[:, family], *columns, wanted)
            values[:, mine] = predicted - measured[mine]
            for constant, slope in by.items():
                jacobian[:, row[constant], mine] += slope
        return values, jacobian


def huber(residuals: Array) -> Array:
    """Return Huber's function at delta = 1e-3, elementwise.

    >>> huber(np.array([0.0, 5e-4, 1.0])).round(9).tolist()
    [0.0, 1.25e-07, 0.0009995]
    """
    size = np.abs(residuals)
    return np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))


@dataclass(frozen=True)
class Solution:
    """Where the minimizer ended: ``x`` (sets, variables) and the ``objective`` (sets,)."""

    x: Array
    objective: Array

    @property
    def best(self) -> int:
        """The set with the lowest objective."""
        return int(np.argmin(self.objective))


def minimize(
    problem: Problem,
    start: Array,
    held: Array,
    weights: Array | None = None,
    frozen: np.ndarray | None = None,
    iterations: int = 200,
    tolerance: float = 1e-9,
) -> Solution:
    """Minimize the objective from many starts side by side.

    Args:
        problem: runs and variables.
        start: (sets, variables) logarithms.
        held: (sets, families, 10) or (families, 10), values of constants that are held.
        weights: (sets, runs) or (runs,), how often each run counts.
        frozen: (sets, variables) mask of variables that stay at their start.
        iterations: at most so many.
        tolerance: a set is done after three steps in a row that gain a smaller share of its objective than this.
    """
    low, high = problem.bounds()
    sets, count = start.shape
    held = np.broadcast_to(held, (sets, *problem.slots.shape))
    weights = np.broadcast_to(1.0 if weights is None else weights, (sets, len(problem.runs)))
    frozen = np.zeros((sets, count), dtype=bool) if frozen is None else frozen
    x = np.clip(start, low, high)
    residual, jacobian = problem.residuals(x, held)
    objective = (weights * huber(residual)).sum(-1)
    damping, stalled = np.ones(sets), np.zeros(sets, dtype=int)
    live = np.arange(sets)
    for _ in range(iterations):
        w = weights[live]
        r, jac = residual[live], jacobian[live]
        size = np.abs(r)
        major = w * np.minimum(1.0, DELTA / np.maximum(size, 1e-300))
        gradient = (jac @ (w * np.clip(r, -DELTA, DELTA))[..., None])[..., 0]
        curvature = w * (size <= DELTA) + damping[live, None] * major
        matrix = (jac * curvature[:, None]) @ jac.swapaxes(1, 2)
        # A variable at its bound that would leave it stays, as a frozen one does.
        stays = frozen[live] | ((x[live] <= low) & (gradient > 0)) | ((x[live] >= high) & (gradient < 0))
        matrix = np.where(stays[:, None] | stays[:, :, None], 0.0, matrix)
        diagonal = np.diagonal(matrix, axis1=1, axis2=2)
        ridge = 1e-9 * diagonal + 1e-12 * diagonal.max(-1, keepdims=True) + 1e-300 + stays
        matrix = matrix + ridge[:, None] * np.eye(count)
        step = -np.linalg.solve(matrix, np.where(stays, 0.0, gradient)[..., None])[..., 0]
        step *= np.minimum(1.0, MAX_STEP / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-300))
        trial = np.clip(x[live] + step, low, high)
        trial_residual, trial_jacobian = problem.residuals(trial, held[live])
        value = (w * huber(trial_residual)).sum(-1)
        better = value < objective[live]
        gain = (objective[live] - value) / np.maximum(objective[live], 1e-300)
        damping[live] = np.clip(np.where(better, damping[live] / 3, damping[live] * 4), 1e-6, 1e12)
        small = np.where(better, gain < tolerance, damping[live] > 1e9)
        stalled[live] = np.where(small, stalled[live] + 1, 0)
        won = live[better]
        x[won], objective[won] = trial[better], value[better]
        residual[won], jacobian[won] = trial_residual[better], trial_jacobian[better]
        live = live[stalled[live] < 3]
        if not len(live):
            break
    return Solution(x, objective)
