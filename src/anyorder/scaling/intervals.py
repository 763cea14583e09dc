"""How far constants are known: bootstrap over runs, profile intervals, and what cannot be told, in words."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from anyorder.scaling.fit import Fit, Stage
from anyorder.scaling.law import CONSTANTS, Array
from anyorder.scaling.solve import DELTA, huber, minimise

LEVEL = 0.95
WIDE = 10.0
"""High over low end of an interval above which a constant is called weakly identified."""
AT_BOUND = 1e-6
BOOTSTRAP_BATCH = 100


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of one constant; an end at the edge of the search is ``open``."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    @property
    def identified(self) -> bool:
        """Whether both ends were found, and lie within a factor of 10."""
        return not (self.open_low or self.open_high) and self.high <= WIDE * self.low


def noise_ratio(residuals: Array, fitted: int) -> float:
    """Return E[psi^2] / E[psi'] of Huber's psi, by which differences of the objective are chi-squared.

    For an M-estimator ``2 (f(restricted) - f(best)) E[psi'] / E[psi^2]`` tends to chi-squared (Huber and Ronchetti, Robust
    Statistics, 2009, section 7.6 and its analogue for tests). E[psi'] is the share of residuals within delta, here smoothed by a Gaussian
    kernel of Silverman's width, as few residuals are that small; both are corrected for the fitted constants.
    """
    count = len(residuals)
    spread = min(np.std(residuals), stats.iqr(residuals) / 1.349) or np.std(residuals)
    width = max(0.9 * float(spread) * count**-0.2, 1e-12)
    within = (stats.norm.cdf((DELTA - residuals) / width) - stats.norm.cdf((-DELTA - residuals) / width)).mean()
    squared = (np.clip(residuals, -DELTA, DELTA) ** 2).mean()
    return float(squared / within) * count / max(count - fitted, 1)


def profile(stage: Stage) -> Array:
    """Return the 95 % profile interval of each variable's logarithm, (variables, 2); at the search's bounds where open.

    The other variables are fitted anew at every value tried.
    """
    problem, best = stage.problem, stage.x
    count = problem.variables
    residual, _ = problem.residuals(best[None], stage.held, slopes=False)
    f_best = float(huber(residual).sum())
    spare = max(len(problem.runs) - count, 1)
    quantile = stats.f.ppf(LEVEL, 1, spare)
    rise = 0.5 * float(quantile) * noise_ratio(residual[0], count)
    low, high = problem.bounds()
    which = np.repeat(np.arange(count), 2)
    sign = np.tile([-1.0, 1.0], count)
    rows = np.arange(2 * count)
    edge = np.where(sign < 0, low[which], high[which])
    frozen = np.zeros((2 * count, count), dtype=bool)
    frozen[rows, which] = True

    def at(value: Array, start: Array, some: Array) -> tuple[Array, Array]:
        """Return the excess of the objective, as a root so that it is nearly linear in the value, and where."""
        moved = start.copy()
        moved[np.arange(len(some)), which[some]] = value
        found = minimise(problem, moved, stage.held, frozen=frozen[some], iterations=60, tolerance=1e-7)
        return np.sqrt(np.maximum(found.objective - f_best, 0.0) / rise) - 1, found.x

    inner, inner_excess = best[which].copy(), np.full(2 * count, -1.0)
    outer, outer_excess = inner.copy(), inner_excess.copy()
    x = np.tile(best, (2 * count, 1))
    reach = np.full(2 * count, 0.02)
    live = rows
    while len(live):  # outwards until the objective has risen enough, or to the edge
        moved = np.clip(best[which[live]] + sign[live] * reach[live], low[which[live]], high[which[live]])
        excess, ends = at(moved, x[live], live)
        outer[live], outer_excess[live] = moved, excess
        inside = excess < 0
        x[live[inside]] = ends[inside]
        inner[live[inside]], inner_excess[live[inside]] = moved[inside], excess[inside]
        reach[live] *= 2
        live = live[inside & (moved != edge[live])]
    live = rows[outer_excess > 0]
    for _ in range(8):  # false position, kept away from the ends
        if not len(live):
            break
        share = inner_excess[live] / (inner_excess[live] - outer_excess[live])
        middle = inner[live] + np.clip(share, 0.1, 0.9) * (outer[live] - inner[live])
        excess, ends = at(middle, x[live], live)
        inside = excess < 0
        x[live[inside]] = ends[inside]
        inner[live[inside]], inner_excess[live[inside]] = middle[inside], excess[inside]
        outer[live[~inside]], outer_excess[live[~inside]] = middle[~inside], excess[~inside]
        live = live[(np.abs(excess) > 0.01) & (np.abs(outer[live] - inner[live]) > 1e-6)]
    # What is nearer to the threshold; the edge where it was never reached.
    ends = np.where(outer_excess < 0, outer, np.where(outer_excess < -inner_excess, outer, inner))
    return ends.reshape(count, 2)


def bootstrap(fit: Fit, resamples: int, seed: int) -> Array:
    """Refit resampled runs, every step of the fit anew: constants (resamples, families, 10).

    Runs are drawn with replacement within each family.
    """
    random = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(fit.runs)))
    for family in fit.families:
        mine = np.flatnonzero(fit.runs.factorization == family)
        weights[:, mine] = random.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=resamples)
    constants = np.tile(fit.constants, (resamples, 1, 1))
    for number, stage in enumerate(fit.stages):
        fitted = stage.problem.slots >= 0
        held = constants.copy()
        if number + 1 < len(fit.stages):
            held[:, ~fitted] = stage.held[~fitted]
        start = np.tile(stage.x, (resamples, 1))
        pieces = [
            minimise(
                stage.problem, start[part], held[part], weights[part][:, stage.rows], iterations=100, tolerance=1e-6
            ).x
            for part in np.array_split(np.arange(resamples), -(-resamples // BOOTSTRAP_BATCH))
        ]
        found = stage.problem.constants(np.concatenate(pieces), held)
        constants[:, fitted] = found[:, fitted]
    return constants


def percentiles(sample: Array) -> Array:
    """Return the 95 % percentile interval along the first axis, ends last."""
    ends = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.moveaxis(ends, 0, -1)


def intervals(fit: Fit) -> dict[str, dict[str, Interval]]:
    """Return the profile interval of every fitted constant, by family."""
    found: dict[str, dict[str, Interval]] = {family: {} for family in fit.families}
    for stage in fit.stages:
        ends, bounds = profile(stage), stage.problem.bounds()
        for family, row in zip(stage.problem.runs.families, stage.problem.slots, strict=True):
            for index in np.flatnonzero(row >= 0):
                slot = row[index]
                is_open = np.abs(ends[slot] - bounds[:, slot]) < AT_BOUND
                found[family][CONSTANTS[index]] = Interval(
                    *np.exp(ends[slot]).tolist(), open_low=bool(is_open[0]), open_high=bool(is_open[1])
                )
    return found
