"""How a run looks in every plot: one color per family, one marker per run of it, dashes for bounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from anyorder.reports.palette import MARKERS, family_colors
from anyorder.reports.runs import RunSummary


@dataclass(frozen=True)
class Look:
    """Color, marker and whether lines are dashed (bounds are)."""

    color: str
    marker: str
    dashed: bool


def looks(runs: Sequence[RunSummary]) -> dict[str, Look]:
    """Return the look of every run by its name; the same family has the same color."""
    colors = family_colors(run.family for run in runs)
    seen, result = dict[str, int](), {}
    for run in runs:
        index = seen.get(run.family, 0)
        seen[run.family] = index + 1
        result[run.name] = Look(colors[run.family], MARKERS[index % len(MARKERS)], run.exact is False)
    return result
