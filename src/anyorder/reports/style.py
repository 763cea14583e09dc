"""How a run looks in every plot: one colour per family, one marker per run of it, dashes for bounds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anyorder.reports.runs import RunSummary

# Okabe and Ito's palette, whose colours stay apart under colour blindness; its yellow is too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
# The families people compare most keep their colour from report to report.
FIXED = {
    "autoregressive": PALETTE[0],
    "masked_diffusion": PALETTE[1],
    "gaussian_diffusion": PALETTE[2],
    "regression": PALETTE[3],
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Look:
    """Colour, marker and whether lines are dashed (bounds are)."""

    colour: str
    marker: str
    dashed: bool


def family_colours(families: Iterable[str]) -> dict[str, str]:
    """Return a colour for each family; the usual ones keep theirs.

    >>> family_colours(["all", "regression"])
    {'all': '#E69F00', 'regression': '#CC79A7'}
    """
    free = [colour for colour in PALETTE if colour not in FIXED.values()]
    colours = dict[str, str]()
    for family in families:
        if family not in colours:
            colours[family] = FIXED.get(family) or (free.pop(0) if free else PALETTE[-1])
    return colours


def looks(runs: Sequence[RunSummary]) -> dict[str, Look]:
    """Return the look of every run by its name; the same family has the same colour."""
    colours = family_colours(run.family for run in runs)
    seen, result = dict[str, int](), {}
    for run in runs:
        index = seen.get(run.family, 0)
        seen[run.family] = index + 1
        result[run.name] = Look(colours[run.family], MARKERS[index % len(MARKERS)], run.exact is False)
    return result
