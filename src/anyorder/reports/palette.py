"""Colors and markers that every plot shares."""

import itertools
from collections.abc import Iterable

# Okabe and Ito's palette, whose colors stay apart under color blindness; its yellow is too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
# The families people compare most keep their color from report to report, also by the names that studies give them.
FIXED = {
    "autoregressive": PALETTE[0],
    "ar": PALETTE[0],
    "masked_diffusion": PALETTE[1],
    "masked": PALETTE[1],
    "gaussian_diffusion": PALETTE[2],
    "regression": PALETTE[3],
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def family_colors(families: Iterable[str]) -> dict[str, str]:
    """Return a color for each family; the usual ones keep theirs, and no two are alike before all are used.

    >>> family_colors(["all", "regression"])
    {'all': '#E69F00', 'regression': '#CC79A7'}
    """
    names = list(dict.fromkeys(families))
    usual = dict[str, str]()
    for name in names:
        if name in FIXED and FIXED[name] not in usual.values():
            usual[name] = FIXED[name]
    # Those of usual families that are not there come last.
    free = sorted((c for c in PALETTE if c not in usual.values()), key=lambda c: c in FIXED.values())
    others = dict(zip([name for name in names if name not in usual], itertools.cycle(free), strict=False))
    return {name: usual.get(name) or others[name] for name in names}
