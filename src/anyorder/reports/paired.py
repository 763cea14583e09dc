"""Paired comparisons of runs: on episodes with the same seeds, one run against each of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from anyorder.errors import ConfigError
from anyorder.reports.findings import environment, listed
from anyorder.reports.runs import RunSummary
from anyorder.reports.table import POLICY, Column, percent
from anyorder.rollouts.statistics import CONFIDENCE, holm, mcnemar_p, paired_interval

LEVEL = 1 - CONFIDENCE
"""Two policies are told apart where the corrected p is below this."""


@dataclass(frozen=True)
class Pairs:
    """The episodes whose seed two runs have in common.

    Attributes:
        only_run: those in which only the run succeeds.
        only_baseline: those in which only the baseline does.
        common: all of them.
        p: of McNemar's exact test.
        corrected_p: the same by Holm's method for the number of tests.
    """

    only_run: int
    only_baseline: int
    common: int
    p: float
    corrected_p: float

    @property
    def difference(self) -> float:
        """Return the run's success rate minus the baseline's."""
        return (self.only_run - self.only_baseline) / self.common

    @property
    def interval(self) -> tuple[float, float]:
        """Return Tango's 95 % interval of the difference, of this pair of runs alone."""
        return paired_interval(self.only_run, self.only_baseline, self.common)


@dataclass(frozen=True)
class PairedComparison:
    """What the pairs of a report's runs say.

    Attributes:
        baseline: the run that the others are compared with.
        runs: the others that share episodes with it, in the report's order.
        pairs: by the name of such a run.
        tests: how many tests ``corrected_p`` counts.
        finding: who is told apart; empty without a pair.
        notes: which runs are not compared and why, and what is left out.
    """

    baseline: RunSummary
    runs: tuple[RunSummary, ...]
    pairs: dict[str, Pairs]
    tests: int
    finding: str
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns of the table of ``runs``; p is shown corrected, too, where there are several tests."""
        pairs = self.pairs
        shown = [
            POLICY,
            Column("minus baseline, points [95 % interval]", lambda run: points(pairs[run.name])),
            Column("only this succeeds", lambda run: str(pairs[run.name].only_run)),
            Column("only baseline succeeds", lambda run: str(pairs[run.name].only_baseline)),
            Column("seeds in common", lambda run: str(pairs[run.name].common)),
            Column("p", lambda run: p_value(pairs[run.name].p)),
        ]
        if self.tests > 1:
            shown.append(Column("p, corrected", lambda run: p_value(pairs[run.name].corrected_p)))
        return tuple(shown)


def compare_pairs(runs: Sequence[RunSummary], baseline: str | None = None) -> PairedComparison | None:
    """Compare one run with each other run on the episodes that both met; None without a second run or any rollout.

    Two runs are paired by the reset seeds of their episodes, in the same environment. p is McNemar's and, for several
    tests, Holm's. A baseline that was picked as the best could have been any run, so that Holm's method then counts
    the tests of all pairs of runs; of a given one it counts its own tests alone.

    Args:
        runs: of a report.
        baseline: the folder of one of them; the one with the highest success rate where it is None.

    Raises:
        ConfigError: ``baseline`` is none of the runs.
    """
    found = None if baseline is None else _named(runs, baseline)
    rolled = [run for run in runs if run.rollouts is not None]
    if len(runs) < 2 or not rolled:
        return None
    best = found or max(rolled, key=lambda run: run.rollouts.rate if run.rollouts else 0.0)
    chosen = [(best, run) for run in runs if run is not best]
    tested = list(combinations(runs, 2)) if found is None else chosen
    counted = {(a.name, b.name): counts for a, b in tested if (counts := _counts(b, a))}
    corrected = dict(zip(counted, holm([mcnemar_p(*counts[:2]) for counts in counted.values()]), strict=True))
    pairs, notes = {}, []
    for _, run in chosen:
        if not (counts := _counts(run, best)):
            notes.append(f"{_obstacle(run, best)}: no test.")
            continue
        key = (best.name, run.name) if (best.name, run.name) in corrected else (run.name, best.name)
        pairs[run.name] = Pairs(*counts, mcnemar_p(*counts[:2]), corrected[key])
        most = max(len(_outcomes(run)), len(_outcomes(best)))
        if counts[2] < most:
            notes.append(f"{run.label} and {best.label} have {counts[2]} of {most} episode seeds in common.")
    shown = tuple(run for run in runs if run.name in pairs)
    if len(counted) > 1:
        why = "as the baseline was picked among the runs" if found is None else "those with the baseline"
        notes.append(f"Corrected p is Holm's for {len(counted)} tests, {why}. Intervals are of one pair each.")
    return PairedComparison(best, shown, pairs, len(counted), _finding(best, shown, pairs), tuple(notes))


def points(pairs: Pairs) -> str:
    """Write a difference in percentage points with its interval.

    >>> points(Pairs(only_run=6, only_baseline=16, common=161, p=0.052, corrected_p=0.052))
    '-6.2 [-12.4, -0.5]'
    """
    low, high = pairs.interval
    return f"{100 * pairs.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def p_value(p: float) -> str:
    """Write a p value to two digits.

    >>> p_value(0.052479), p_value(1.0), p_value(3e-9)
    ('0.052', '1', '< 0.0001')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _named(runs: Sequence[RunSummary], baseline: str) -> RunSummary:
    for run in runs:
        if run.folder == Path(baseline).resolve():
            return run
    raise ConfigError("baseline", baseline, "one of the runs")


def _outcomes(run: RunSummary) -> dict[int, bool]:
    return {} if run.rollouts is None else run.rollouts.outcomes


def _counts(run: RunSummary, baseline: RunSummary) -> tuple[int, int, int] | None:
    """Return episodes in which only the run succeeds, only the baseline does, and all; None without a pair."""
    one, other = _outcomes(run), _outcomes(baseline)
    common = one.keys() & other.keys()
    if not common or environment(run) != environment(baseline):
        return None
    only_run = sum(one[seed] and not other[seed] for seed in common)
    return only_run, sum(other[seed] and not one[seed] for seed in common), len(common)


def _obstacle(run: RunSummary, baseline: RunSummary) -> str:
    """Say why two runs have no pair."""
    for one in (run, baseline):
        if one.rollouts is None:
            return f"{one.label} has no rollouts"
        if not one.rollouts.outcomes:
            return f"The episodes of {one.label} are not recorded with their seeds"
    if environment(run) != environment(baseline):
        return f"{run.label} and {baseline.label} were rolled out in different environments"
    return f"{run.label} and {baseline.label} met different episode seeds, so they are unpaired"


def _finding(baseline: RunSummary, runs: Sequence[RunSummary], pairs: dict[str, Pairs]) -> str:
    if not runs:
        return ""
    clear = [run for run in runs if pairs[run.name].corrected_p < LEVEL]
    behind = [run.label for run in clear if pairs[run.name].difference < 0]
    ahead = [run.label for run in clear if pairs[run.name].difference > 0]
    undecided = [run.label for run in runs if run not in clear]
    said = [
        *([f"is ahead of {listed(behind)}"] if behind else []),
        *([f"is behind {listed(ahead)}"] if ahead else []),
        *([f"is not told apart from {listed(undecided)}"] if undecided else []),
    ]
    level = f"McNemar's exact test at the {percent(LEVEL)} % level"
    return f"On the same episodes, {baseline.label} {', '.join(said)} ({level})."
