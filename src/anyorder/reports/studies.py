"""What a study says, in words and tables: what there is to learn from, what it would do, where it stands."""

from collections.abc import Sequence

from anyorder.bars import duration
from anyorder.reports.text_tables import Table
from anyorder.studies.collect import STATES, Standing
from anyorder.studies.data import StudyData
from anyorder.studies.grid import Member


def data_line(data: StudyData) -> str:
    """Say what there is to learn from, and how many episodes are held out."""
    return (
        f"{data.train.episodes} demonstrations of {data.train.minutes:.1f} minutes, "
        f"{data.unique_tokens:.0f} action tokens, {1 / data.values_per_token:.3g} an action value; "
        f"{data.validation.episodes} more choose, {data.test.episodes} report"
    )


def plan_table(members: Sequence[Member]) -> Table:
    """Return one row a family: its runs, their sizes, and what they cost."""
    rows = []
    for family in dict.fromkeys(m.family for m in members):
        mine = [m for m in members if m.family == family]
        spans = [span([getattr(m, k) for m in mine]) for k in ("params", "unique_tokens")]
        epochs = span([m.settings.epochs for m in mine])
        cost = sum(m.estimated_s for m in mine)
        rows.append([family, str(len(mine)), *spans, epochs, f"{sum(m.flops for m in mine):.2e}", duration(cost)])
    return Table(("family", "runs", "params", "unique tokens", "epochs", "FLOPs", "one core"), rows)


def plan_line(members: Sequence[Member], processes: int) -> str:
    """Say what all runs cost together."""
    total, longest = sum(m.estimated_s for m in members), max(m.estimated_s for m in members)
    return (
        f"{len(members)} runs, {sum(m.flops for m in members):.3g} FLOPs, about {duration(total)} on one core, "
        f"{duration(max(total / processes, longest))} on {processes}; the longest {duration(longest)}"
    )


def state_table(found: Sequence[Standing]) -> Table:
    """Return one row a family, and one of all where there are several."""
    families = dict.fromkeys(s.member.family for s in found)
    rows = [state_row(name, [s for s in found if s.member.family == name]) for name in families]
    return Table(("family", *STATES, "FLOPs left"), [*rows, state_row("all", found)] if len(rows) > 1 else rows)


def state_row(name: str, found: Sequence[Standing]) -> list[str]:
    """Return how many runs are in each state, and the FLOPs that are left."""
    counts = [sum(s.state == state for s in found) for state in STATES]
    flops = sum(s.member.flops * s.left for s in found)
    return [name, *map(str, counts), f"{flops:.2e}" if flops else "0"]


def failures_line(failed: Sequence[str], of: int, reason: object) -> str:
    """Say how many of the runs failed, why the first did, and how to try them again."""
    return (
        f"{len(failed)} of {of} runs failed, the first, {failed[0]}: {reason}; "
        "`anyorder study run` with retry_failed=true tries them again"
    )


def span(values: Sequence[float]) -> str:
    """Return the least and the greatest.

    >>> span([1000, 250000, 3000])
    '1,000 to 250,000'
    """
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
