"""Critical compute of every pair of families, with intervals over the bootstrap."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from anyorder.laws.critical import Lowest, PowerLaw, critical_flops, lowest_losses, power_laws
from anyorder.laws.intervals import percentiles
from anyorder.laws.law import Array
from anyorder.laws.runs import Runs

POINTS = 8
"""Crossings are sought at this many values of U at most."""
BELOW, ABOVE = 1e-3, 1e6
"""Compute is looked at from these many times the cheapest run's to these many times the most expensive one's."""
RESAMPLES = 100
"""This many resamples say how far a crossing is known."""
OFTEN = 0.5
"""An interval is given where at least this share of the resamples has a crossing."""


@dataclass(frozen=True)
class Crossing:
    """C_crit at one U.

    Attributes:
        unique_tokens: U.
        flops: C_crit, nan where the order never changes.
        interval: 95 % over the resamples that cross; nan where fewer than half do.
        share: of the resamples that cross.
        better_above: the family with the lower loss above C_crit, or at all compute.
    """

    unique_tokens: float
    flops: float
    interval: tuple[float, float]
    share: float
    better_above: str


@dataclass(frozen=True)
class Pair:
    """Two families compared, with E kept or dropped.

    Attributes:
        families: both names.
        keep_e: whether E takes part.
        crossings: one a value of U.
        line: the power law through them, None with fewer than two or where C_crit does not depend on U.
        slope_interval: 95 %.
        intercept_interval: 95 %.
        looked_at: lowest and highest C, FLOPs.
        lines: (resamples, 2) slopes and intercepts over the bootstrap, nan where a resample has no line.
    """

    families: tuple[str, str]
    keep_e: bool
    crossings: tuple[Crossing, ...]
    line: PowerLaw | None
    slope_interval: tuple[float, float]
    intercept_interval: tuple[float, float]
    looked_at: tuple[float, float]
    lines: Array


def compare_pairs(runs: Runs, best: Mapping[str, Array], samples: Mapping[str, Array]) -> list[Pair]:
    """Return the critical compute of every pair of families, with E kept and dropped.

    Args:
        runs: set the range of U and C.
        best: constants (10,) by family.
        samples: bootstrap constants (resamples, 10) by family, equally many; those of one family are paired with those
            of the other by index.
    """
    u = np.unique(runs.unique_tokens)
    if len(u) > POINTS:
        u = np.geomspace(u[0], u[-1], POINTS)
    scans = scan(best, samples, u, (float(runs.flops.min()), float(runs.flops.max())))
    return [_pair(names, keep_e, scans) for names in itertools.combinations(best, 2) for keep_e in (True, False)]


def scan(
    best: Mapping[str, Array], samples: Mapping[str, Array], u: Array, flops: tuple[float, float]
) -> dict[str, Lowest]:
    """Return the lowest losses of each family, of the fit and of its resamples.

    Args:
        best: constants (10,) by family.
        samples: bootstrap constants (resamples, 10) by family, equally many.
        u: (points,) values of U.
        flops: of the cheapest and the most expensive run; compute is looked at well beyond.
    """
    between = (BELOW * flops[0], ABOVE * flops[1])
    each = {name: np.concatenate([best[name][None], samples[name][:RESAMPLES]]) for name in best}
    return {name: lowest_losses(constants, u, between) for name, constants in each.items()}


def meet(names: tuple[str, str], keep_e: bool, scans: Mapping[str, Lowest]) -> tuple[list[Crossing], Array]:
    """Return where two families cross at each U, and C_crit of the fit and of each resample (1 + resamples, points)."""
    flops, sign = critical_flops(scans[names[0]], scans[names[1]], keep_e)
    crossings = []
    for column, tokens in enumerate(scans[names[0]].unique_tokens):
        met = flops[1:, column][np.isfinite(flops[1:, column])]
        share = len(met) / max(len(flops) - 1, 1)
        low, high = percentiles(met).tolist() if len(met) and share >= OFTEN else (math.nan, math.nan)
        better = names[1] if sign[0, column] > 0 else names[0]
        crossings.append(Crossing(float(tokens), float(flops[0, column]), (low, high), share, better))
    return crossings, flops


def _pair(names: tuple[str, str], keep_e: bool, scans: Mapping[str, Lowest]) -> Pair:
    crossings, flops = meet(names, keep_e, scans)
    log_c = scans[names[0]].log_flops
    lines = power_laws(flops, scans[names[0]].unique_tokens)
    known = lines[1:][np.isfinite(lines[1:, 0])]
    ends: Array = np.full((2, 2), np.nan)
    if len(known) >= OFTEN * (len(lines) - 1) and len(known):
        ends = percentiles(known)
    line = PowerLaw(*lines[0].tolist()) if np.isfinite(lines[0, 0]) else None
    slope, intercept = ends.tolist()
    looked_at = (float(np.exp(log_c[0])), float(np.exp(log_c[-1])))
    return Pair(names, keep_e, tuple(crossings), line, tuple(slope), tuple(intercept), looked_at, lines[1:])
