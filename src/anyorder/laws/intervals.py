"""How far constants are known: bootstrap over runs, and profile intervals."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyorder.laws.fit import Fit, Stage
from anyorder.laws.law import Array, Constant
from anyorder.laws.solve import DELTA, huber, minimize

Indices = NDArray[np.intp]

LEVEL = 0.95
"""Intervals hold the truth in this share of studies."""
WIDE = 10.0
"""A constant is weakly identified where the high end of its interval is more than this many times the low one."""
AT_BOUND = 1e-6
"""An end this close to the edge of the search, as a share of it, is open."""
BATCH = 100
"""This many resamples are fitted side by side."""
VISIBLE = 100.0
"""Any table with repetitions shows a decay as fast as this."""
RESOLUTION = 1e-6
"""The minimizer leaves this share of a constant open; no interval is narrower, as it would be without noise."""
SIMULATED = 40_000
"""This many draws say how wide intervals that hold together are, to 0.01 standard errors."""


@dataclass(frozen=True)
class Interval:
    """An interval of one constant; an end at the edge of the search is ``open``."""

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

    For an M-estimator ``2 (f(restricted) - f(best)) E[psi'] / E[psi^2]`` tends to chi-squared, with as many degrees of
    freedom as constants are restricted. E[psi'] is the share of residuals within delta, smoothed by a Gaussian kernel
    of Silverman's width, as few residuals are that small; the ratio is corrected for the fitted constants.
    """
    from scipy import special  # most of what importing this module would take

    count = len(residuals)
    quartiles = np.quantile(residuals, [0.25, 0.75])
    spread = min(float(np.std(residuals)), float(quartiles[1] - quartiles[0]) / 1.349) or float(np.std(residuals))
    width = max(0.9 * spread * count**-0.2, 1e-12)
    within = (special.ndtr((DELTA - residuals) / width) - special.ndtr((-DELTA - residuals) / width)).mean()
    squared = (np.clip(residuals, -DELTA, DELTA) ** 2).mean()
    return float(squared / within) * count / max(count - fitted, 1)


def level_of_each(samples: Array) -> float:
    """Return the level of single intervals with which all of them hold together at 95 %.

    The largest of correlated normal errors is simulated: correlated as the samples' normal scores are, so that neither
    scales nor tails count. Balanced simultaneous intervals, as Beran's (JASA 83, 1988).

    Args:
        samples: (resamples, constants) over the bootstrap.

    >>> samples = np.random.default_rng(0).standard_normal((4000, 1))
    >>> round(level_of_each(samples), 2), round(level_of_each(samples.repeat(7, axis=1)), 2)
    (0.95, 0.95)
    >>> round(level_of_each(np.random.default_rng(0).standard_normal((4000, 7))), 3)  # about 0.95 ** (1 / 7)
    0.993
    """
    from scipy import special  # most of what importing this module would take

    varied = samples[:, np.ptp(samples, axis=0) > 0]
    if varied.shape[1] < 2:
        return LEVEL
    scores = special.ndtri((varied.argsort(0).argsort(0) + 0.5) / len(varied))
    values, vectors = np.linalg.eigh(np.corrcoef(scores, rowvar=False))
    draws = np.random.default_rng(0).standard_normal((SIMULATED, len(values)))
    errors = (draws * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return float(2 * special.ndtr(np.quantile(np.abs(errors).max(-1), LEVEL)) - 1)


def profile(stage: Stage, level: float = LEVEL) -> Array:
    """Return the profile interval of each variable's logarithm, (variables, 2); at the search's bounds where open.

    The other variables are fitted anew at every value tried.
    """
    from scipy import special  # most of what importing this module would take

    problem, best = stage.problem, stage.x
    count = problem.variables
    residual, _ = problem.residuals(best[None], stage.held, slopes=False)
    f_best = float(huber(residual).sum())
    spare = max(len(problem.runs) - count, 1)
    rise = 0.5 * float(special.fdtri(1, spare, level)) * noise_ratio(residual[0], count)
    low, high = problem.bounds()
    which = np.repeat(np.arange(count), 2)
    sign = np.tile([-1.0, 1.0], count)
    rows = np.arange(2 * count)
    edge = np.where(sign < 0, low[which], high[which])
    frozen = np.zeros((2 * count, count), dtype=bool)
    frozen[rows, which] = True

    def at(value: Array, start: Array, some: Indices) -> tuple[Array, Array]:
        """Return the excess of the objective, as a root so that it is nearly linear in the value, and where."""
        moved = start.copy()
        moved[np.arange(len(some)), which[some]] = value
        found = minimize(problem, moved, stage.held, frozen=frozen[some], iterations=60, tolerance=1e-7)
        return np.sqrt(np.maximum(found.objective - f_best, 0.0) / rise) - 1, found.x

    inner, inner_excess = best[which].copy(), np.full(2 * count, -1.0)
    outer, outer_excess = inner.copy(), inner_excess.copy()
    x = np.tile(best, (2 * count, 1))
    reach = np.full(2 * count, 0.02)
    live: Indices = rows
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


def refit(fit: Fit, weights: Array) -> Array:
    """Fit again with every run counted ``weights`` (sets, runs) times: constants (sets, families, 10).

    All steps are done anew, from where the fit ended. A decay so slow that the runs do not show it has no gradient, so
    such constants start from a visible one as well.
    """
    sets = len(weights)
    constants = np.tile(fit.constants, (sets, 1, 1))
    for number, stage in enumerate(fit.stages):
        fitted = stage.problem.slots >= 0
        held = constants.copy()
        if number + 1 < len(fit.stages):
            held[:, ~fitted] = stage.held[~fitted]
        visible = stage.constants()
        decays = [Constant.R_D, Constant.R_N]
        visible[:, decays] = np.minimum(visible[:, decays], VISIBLE)
        begin = [stage.x, stage.problem.variables_of(visible[None])[0]]
        tries = begin[: 1 if np.array_equal(*begin) else 2]
        for part in np.array_split(np.arange(sets), -(-sets // BATCH)):
            ends = [
                minimize(
                    stage.problem,
                    np.tile(x, (len(part), 1)),
                    held[part],
                    weights[part][:, stage.rows],
                    iterations=60,
                    tolerance=1e-5,
                )
                for x in tries
            ]
            choice = np.argmin([end.objective for end in ends], axis=0)
            x = np.stack([end.x for end in ends])[choice, np.arange(len(part))]
            found = stage.problem.constants(x, held[part])
            constants[np.ix_(part, *map(np.arange, fitted.shape))] = np.where(fitted, found, constants[part])
    return constants


def bootstrap(fit: Fit, resamples: int, seed: int) -> Array:
    """Refit resampled runs: constants (resamples, families, 10).

    Runs are drawn with replacement within each family; for two steps those of one epoch apart from the others, so that
    the first step keeps its number of runs.
    """
    random = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(fit.runs)))
    apart = fit.runs.single_epoch & fit.config.two_step
    for family, once in itertools.product(fit.families, (False, True)):
        mine = np.flatnonzero((fit.runs.factorization == family) & (apart == once))
        if not len(mine):
            continue
        weights[:, mine] = random.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=resamples)
    return refit(fit, weights)


def percentiles(sample: Array, level: float = LEVEL) -> Array:
    """Return the percentile interval along the first axis, ends last."""
    ends = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.moveaxis(ends, 0, -1)


def intervals(fit: Fit, samples: Array, together: bool = True) -> dict[str, dict[str, Interval]]:
    """Return the interval of every fitted constant, by family.

    At each end the wider of the profile and the percentiles of the bootstrap ``samples`` (resamples, families, 10): the
    profile takes the noise for the same in all runs, and the constants of an earlier step for known; the bootstrap is
    short of tails where runs are few.

    Args:
        fit: the fit.
        samples: from ``bootstrap``.
        together: the intervals hold for all constants of the fit at once in 95 % of studies; otherwise each does.
    """
    found: dict[str, dict[str, Interval]] = {family: {} for family in fit.families}
    fitted = np.zeros(fit.constants.shape, dtype=bool)
    for stage in fit.stages:
        fitted |= stage.problem.slots >= 0
    level = level_of_each(samples[:, fitted]) if together else LEVEL
    for stage in fit.stages:  # a constant of both steps has the second's interval
        bounds = np.exp(stage.problem.bounds())
        ends = np.exp(profile(stage, level))
        for family, name in enumerate(fit.families):
            for index in np.flatnonzero(stage.problem.slots[family] >= 0):
                slot = stage.problem.slots[family, index]
                value = float(fit.constants[family, index])
                low, high = percentiles(samples[:, family, index], level).tolist()
                low = min(low, float(ends[slot, 0]), value * (1 - RESOLUTION))
                high = max(high, float(ends[slot, 1]), value * (1 + RESOLUTION))
                low, high = max(low, float(bounds[0, slot])), min(high, float(bounds[1, slot]))
                open_low = low <= bounds[0, slot] * (1 + AT_BOUND)
                open_high = high >= bounds[1, slot] / (1 + AT_BOUND)
                found[name][Constant(index).name] = Interval(low, high, bool(open_low), bool(open_high))
    return found
