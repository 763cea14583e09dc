"""Fitted laws as a whole: every family's constants and intervals, their comparison, and ``laws.json``."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyorder.errors import UserError, bad_value
from anyorder.reports.page import finite, write_whole
from anyorder.scaling.config import FitConfig
from anyorder.scaling.fit import Fit, fit
from anyorder.scaling.intervals import Interval, bootstrap, in_words, intervals, percentiles
from anyorder.scaling.law import CONSTANTS, Array, constants_array
from anyorder.scaling.pairs import Pair, compare_pairs
from anyorder.scaling.runs import Runs
from anyorder.scaling.select import HeldOut, compare_laws, simplest

PUBLISHED = CONSTANTS[:7]
"""Always written; the constants of the overfitting term only where the law has them."""


@dataclass(frozen=True)
class FamilyLaw:
    """The law of one family.

    Attributes:
        constants: (10,).
        intervals: 95 %, by fitted constant.
        samples: (resamples, 10) over the bootstrap.
        objective: summed Huber loss.
        r2: on raw losses.
        r2_no_decay: with the same A, B, E, alpha, beta and every repetition counted as fresh.
        runs: how many.
        ranges: smallest and largest params, tokens, unique_tokens, flops among them.
    """

    constants: Array
    intervals: dict[str, Interval]
    samples: Array
    objective: float
    r2: float
    r2_no_decay: float
    runs: int
    ranges: dict[str, tuple[float, float]]

    @property
    def notes(self) -> list[str]:
        """What the runs cannot tell, in words."""
        values = dict(zip(CONSTANTS, self.constants.tolist(), strict=True))
        words = [in_words(name, values[name], interval) for name, interval in self.intervals.items()]
        return [line for line in words if line]


@dataclass(frozen=True)
class Laws:
    """What ``anyorder fit`` found.

    Attributes:
        config: how it was fitted, under the chosen law.
        laws: by family.
        pairs: critical compute, two entries (E kept, E dropped) a pair of families.
        held_out: scores of the laws that were tried, where the law was chosen.
    """

    config: FitConfig
    laws: dict[str, FamilyLaw]
    pairs: list[Pair]
    held_out: list[HeldOut]


def fit_laws(
    runs: Runs, config: FitConfig, resamples: int = 400, seed: int = 0, choose: bool = False
) -> Laws:
    """Fit every family, with intervals and critical compute.

    Args:
        runs: of any set of families.
        config: how.
        resamples: of the bootstrap.
        seed: of the bootstrap and of the folds.
        choose: take the law that predicts held-out runs best instead of ``config.law``.
    """
    held_out: list[HeldOut] = []
    if choose:
        held_out = compare_laws(runs, config, seed=seed)
        fits = list(simplest(held_out).fits)
    else:
        fits = fit(runs, config)
    laws = {}
    for number, one in enumerate(fits):
        samples = bootstrap(one, resamples, seed + number)
        found = intervals(one, samples)
        for index, family in enumerate(one.families):
            laws[family] = _family_law(one, family, found[family], samples[:, index])
    laws = {family: laws[family] for family in runs.families}
    best = {family: law.constants for family, law in laws.items()}
    pairs = compare_pairs(runs, best, {family: law.samples for family, law in laws.items()})
    return Laws(fits[0].config, laws, pairs, held_out)


def _family_law(one: Fit, family: str, found: dict[str, Interval], samples: Array) -> FamilyLaw:
    mine = one.runs.of(family)
    columns = {name: getattr(mine, name) for name in ("params", "tokens", "unique_tokens", "flops")}
    return FamilyLaw(
        constants=one.of(family),
        intervals=found,
        samples=samples,
        objective=one.objective(family),
        r2=one.r2(family),
        r2_no_decay=one.r2(family, decay=False),
        runs=len(mine),
        ranges={name: (float(column.min()), float(column.max())) for name, column in columns.items()},
    )


def to_dict(laws: Laws) -> dict[str, Any]:
    """Return the content of ``laws.json``; what is infinite (a decay that the law does not have) or unknown is null."""
    config = laws.config
    written = {family: _law_dict(law, config) for family, law in laws.laws.items()}
    pairs = [_pair_dict(pair) for pair in laws.pairs]
    critical = {"units": {"C": "FLOPs, 6 N D", "U": "tokens"}, "pairs": pairs}
    content = {
        "law": config.law,
        "settings": {"tied": config.tied, "shared_e": config.shared_e, "two_step": config.two_step},
        "laws": written,
        "critical": critical,
        "held_out": {score.law: {"loss": score.loss, "median": score.median} for score in laws.held_out},
    }
    plain: dict[str, Any] = finite(content)
    return plain


def _law_dict(law: FamilyLaw, config: FitConfig) -> dict[str, Any]:
    shown = [
        name
        for name in CONSTANTS
        if name in PUBLISHED or name in law.intervals or name in config.fixed.given()
    ]
    values = dict(zip(CONSTANTS, law.constants.tolist(), strict=True))
    fixed = [name for name in shown if name not in law.intervals and math.isfinite(values[name])]
    columns = {name: CONSTANTS.index(name) for name in law.intervals}
    return {
        "constants": {name: values[name] for name in shown},
        "intervals": {
            **{name: [i.low, i.high] for name, i in law.intervals.items()},
            **{name: [values[name], values[name]] for name in fixed},
        },
        "objective": law.objective,
        "r2": law.r2,
        "r2_no_decay": law.r2_no_decay,
        "identified": {name: interval.identified for name, interval in law.intervals.items()},
        "notes": law.notes,
        "fixed": fixed,
        "runs": law.runs,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "bootstrap": {
            "intervals": {name: percentiles(law.samples[:, i]).tolist() for name, i in columns.items()},
            "samples": {name: [float(f"{v:.6g}") for v in law.samples[:, i]] for name, i in columns.items()},
        },
    }


def _pair_dict(pair: Pair) -> dict[str, Any]:
    line = None
    if pair.line is not None:
        line = {
            "slope": pair.line.slope,
            "intercept": pair.line.intercept,
            "slope_interval": list(pair.slope_interval),
            "intercept_interval": list(pair.intercept_interval),
        }
    points = [
        {
            "unique_tokens": point.unique_tokens,
            "flops": point.flops,
            "interval": list(point.interval),
            "share_of_resamples": point.share,
            "better_above": point.better_above,
        }
        for point in pair.crossings
    ]
    return {
        "families": list(pair.families),
        "E": "kept" if pair.keep_e else "dropped",
        "points": points,
        "power_law": line,
        "looked_at_flops": list(pair.looked_at),
        "text": pair.text(),
    }


def write_laws(laws: Laws, path: Path) -> None:
    """Write ``laws.json``, whole or not at all."""
    write_whole(path, json.dumps(to_dict(laws), indent=1, allow_nan=False) + "\n")


@dataclass(frozen=True)
class ReadLaw:
    """A family's law as read back: constants (10,), bootstrap samples (resamples, 10), ranges of its runs."""

    constants: Array
    samples: Array
    ranges: dict[str, tuple[float, float]]


def read_laws(path: str | Path) -> dict[str, ReadLaw]:
    """Read the laws of ``laws.json`` by family.

    Raises:
        UserError: the file does not exist or holds no laws.
    """
    try:
        written = json.loads(Path(path).read_text(encoding="utf-8"))["laws"]
        return {family: _read_law(law) for family, law in written.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(bad_value("laws", str(path), "a laws.json that `anyorder fit` wrote")) from error


def _read_law(law: dict[str, Any]) -> ReadLaw:
    constants = constants_array(
        {name: value for name, value in law["constants"].items() if value is not None}
    )
    drawn = law["bootstrap"]["samples"]
    count = max((len(values) for values in drawn.values()), default=1)
    samples = np.tile(constants, (count, 1))
    for name, values in drawn.items():
        samples[:, CONSTANTS.index(name)] = values
    return ReadLaw(constants, samples, {name: (low, high) for name, (low, high) in law["ranges"].items()})
