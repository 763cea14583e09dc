"""Fitted laws as a whole: every family's constants and intervals, and their comparison."""

from collections.abc import Mapping
from dataclasses import dataclass

from anyorder.laws.config import FitConfig
from anyorder.laws.facts import Facts
from anyorder.laws.fit import Fit, fit
from anyorder.laws.intervals import Interval, bootstrap, intervals
from anyorder.laws.law import Array
from anyorder.laws.pairs import Pair, compare_pairs
from anyorder.laws.runs import Runs
from anyorder.laws.select import CrossValidated, compare_laws, simplest

RANGES = ("params", "tokens", "unique_tokens", "epochs", "flops")
"""Of these quantities a law's runs have a smallest and a largest value."""


@dataclass(frozen=True)
class FamilyLaw:
    """The law of one family, as far as questions need it.

    Attributes:
        constants: (10,).
        samples: (resamples, 10) over the bootstrap.
        ranges: smallest and largest of each of ``RANGES`` among its runs.
    """

    constants: Array
    samples: Array
    ranges: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class FittedLaw(FamilyLaw):
    """The law of one family, with how well it fits.

    Attributes:
        intervals: by fitted constant; at 95 % all of them hold at once.
        objective: summed Huber loss.
        r2: on raw losses.
        r2_no_decay: with the same A, B, E, alpha, beta and every repetition counted as fresh.
        runs: how many.
    """

    intervals: dict[str, Interval]
    objective: float
    r2: float
    r2_no_decay: float
    runs: int


@dataclass(frozen=True)
class Laws:
    """What ``anyorder advise`` asks: the law of each family, and what is known of the runs."""

    families: Mapping[str, FamilyLaw]
    facts: Facts


@dataclass(frozen=True)
class FittedLaws(Laws):
    """What ``anyorder fit`` found.

    Attributes:
        config: how it was fitted, under the chosen law.
        pairs: critical compute, two entries (E kept, E dropped) a pair of families.
        held_out: scores of the laws that were tried, where the law was chosen.
    """

    families: Mapping[str, FittedLaw]
    config: FitConfig
    pairs: list[Pair]
    held_out: list[CrossValidated]


def fit_laws(
    runs: Runs, config: FitConfig, resamples: int = 400, seed: int = 0, choose: bool = False, facts: Facts | None = None
) -> FittedLaws:
    """Fit every family, with intervals and critical compute.

    Args:
        runs: of any set of families.
        config: how.
        resamples: of the bootstrap.
        seed: of the bootstrap and of the folds.
        choose: take the law that predicts held-out runs best instead of ``config.law``.
        facts: what else is known of the runs.
    """
    held_out: list[CrossValidated] = []
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
    return FittedLaws(laws, facts or Facts(), fits[0].config, pairs, held_out)


def _family_law(one: Fit, family: str, found: dict[str, Interval], samples: Array) -> FittedLaw:
    mine = one.runs.of(family)
    columns = {name: getattr(mine, name) for name in RANGES}
    return FittedLaw(
        constants=one.of(family),
        intervals=found,
        samples=samples,
        objective=one.objective(family),
        r2=one.r2(family),
        r2_no_decay=one.r2(family, decay=False),
        runs=len(mine),
        ranges={name: (float(column.min()), float(column.max())) for name, column in columns.items()},
    )
