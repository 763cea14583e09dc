"""Colours and markers that every plot shares."""

from collections.abc import Iterable

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
