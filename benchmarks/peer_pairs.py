"""Policies of the comparison with LeRobot's, paired: the same episodes, and an interval over training seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyorder.reports.paired import Pairs, p_value, points
from anyorder.rollouts.statistics import difference_over_seeds, holm, mcnemar_p, success_over_seeds

Result = dict[str, Any]
"""One cell: its ``seed``, ``successes`` and ``episodes``; since cells keep them, ``outcomes`` of each episode."""


def seed_interval(results: Sequence[Result]) -> str:
    """Write the interval of a policy's success over episodes and training seeds; nothing with one seed.

    It needs no single outcomes, as each training seed has episodes of its own.

    >>> seed_interval([{"successes": count, "episodes": 50} for count in (45, 40, 41)])
    '71% to 97%'
    """
    if len(results) < 2:
        return ""
    outcomes = [[i < result["successes"] for i in range(result["episodes"])] for result in results]
    low, high = success_over_seeds(outcomes, shared=False)
    return f"{low:.0%} to {high:.0%}"


def paired_table(results: dict[str, list[Result]], baseline: str, labels: dict[str, str]) -> str:
    """Return a task's table of every policy against one, by the training seeds that both have.

    p is McNemar's of these trained policies, over the episodes of all their training seeds, and Holm's for the rows.

    Args:
        results: the cells of each policy.
        baseline: one of the policies.
        labels: what a policy is called.
    """
    rows, notes = {}, []
    for policy in results:
        if policy != baseline:
            one, other, obstacle = _common(results[policy], results.get(baseline, []))
            if obstacle:
                notes.append(f"{labels[policy]}: {obstacle}, so it is not compared.")
            else:
                rows[policy] = (one, other)
    against = labels.get(baseline, baseline)
    lines = [f"\nPaired with {against}, on the same episodes:\n"]
    if rows:
        counts = {
            policy: (int((one > other).sum()), int((other > one).sum()), one.size)
            for policy, (one, other) in rows.items()
        }
        corrected = holm([mcnemar_p(*found[:2]) for found in counts.values()])
        lines += [
            f"| policy | minus {against}, points [95 % Tango] | over training seeds, too | only this | only {against} "
            "| pairs | p | p, corrected |",
            "|---|---|---|---:|---:|---:|---:|---:|",
        ]
        for (policy, found), last in zip(counts.items(), corrected, strict=True):
            pairs = Pairs(*found, mcnemar_p(*found[:2]), last)
            over = ""
            if len(rows[policy][0]) > 1:
                low, high = difference_over_seeds(*rows[policy], shared=False)
                over = f"{100 * low:+.1f} to {100 * high:+.1f}"
            lines.append(
                f"| {labels[policy]} | {points(pairs)} | {over} | {pairs.only_run} | {pairs.only_baseline} "
                f"| {pairs.common} | {p_value(pairs.p)} | {p_value(pairs.corrected_p)} |"
            )
    return "\n".join([*lines, *([""] if rows and notes else []), *(f"- {note}" for note in notes)])


def _common(results: Sequence[Result], baseline: Sequence[Result]) -> tuple[Any, Any, str]:
    """Return both policies' outcomes, (training seeds, episodes), or why there are none."""
    one, other = ({result["seed"]: result for result in found} for found in (results, baseline))
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None, None, "no training seed in common"
    if not all("outcomes" in found[seed] for found in (one, other) for seed in seeds):
        return None, None, "a cell of an earlier version without the outcome of each episode"
    first, second = (np.array([found[seed]["outcomes"] for seed in seeds], dtype=int) for found in (one, other))
    return first, second, ""
