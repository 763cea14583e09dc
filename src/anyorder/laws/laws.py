"""Fitted laws as a whole: every family's constants and intervals, and their comparison."""

from dataclasses import dataclass

from anyorder.laws.config import FitConfig
from anyorder.laws.facts import Facts
from anyorder.laws.fit import Fit, fit
from anyorder.laws.intervals import Interval, bootstrap, in_words, intervals
from anyorder.laws.law import CONSTANTS, Array
from anyorder.laws.pairs import Pair, compare_pairs
from anyorder.laws.runs import Runs
from anyorder.laws.select import HeldOut, compare_laws, simplest

RANGES = ("params", "tokens", "unique_tokens", "epochs", "flops")


@dataclass(frozen=True)
class FamilyLaw:
    """The law of one family.

    Attributes:
        constants: (10,).
        intervals: by fitted constant; at 95 % all of them hold at once.
        samples: (resamples, 10) over the bootstrap.
        objective: summed Huber loss.
        r2: on raw losses.
        r2_no_decay: with the same A, B, E, alpha, beta and every repetition counted as fresh.
        runs: how many.
        ranges: smallest and largest of each of ``RANGES`` among them.
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
        facts: what else is known of the runs.
    """

    config: FitConfig
    laws: dict[str, FamilyLaw]
    pairs: list[Pair]
    held_out: list[HeldOut]
    facts: Facts


def fit_laws(
    runs: Runs,
    config: FitConfig,
    resamples: int = 400,
    seed: int = 0,
    choose: bool = False,
    facts: Facts | None = None,
) -> Laws:
    """Fit every family, with intervals and critical compute.

    Args:
        runs: of any set of families.
        config: how.
        resamples: of the bootstrap.
        seed: of the bootstrap and of the folds.
        choose: take the law that predicts held-out runs best instead of ``config.law``.
        facts: what else is known of the runs.
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
    return Laws(fits[0].config, laws, pairs, held_out, facts or Facts())


def _family_law(one: Fit, family: str, found: dict[str, Interval], samples: Array) -> FamilyLaw:
    mine = one.runs.of(family)
    columns = {name: getattr(mine, name) for name in RANGES}
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
