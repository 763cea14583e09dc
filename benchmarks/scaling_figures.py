"""Figures of a study's runs that ``anyorder fit`` does not have."""

from collections.abc import Sequence
from typing import Any

from anyorder.reports.palette import family_colors
from anyorder.reports.svg import INK, dress, figure, plain_numbers, to_svg

Row = dict[str, Any]


def success_plot(rows: Sequence[Row]) -> str:
    """Return success over test NLL."""
    plot = figure(8.4, 3.4)
    axes = plot.subplots()
    dress(axes, "test NLL at the end of the run, nats per action token", "success, %")
    rolled = [row for row in rows if row["success"] is not None]
    colors = family_colors(row["factorization"].split()[0] for row in rolled)
    for name, color in colors.items():
        mine = [row for row in rolled if row["factorization"].split()[0] == name]
        x, y = ([scale * row[k] for row in mine] for k, scale in (("test_final", 1), ("success", 100)))
        spread = [[100 * abs(row["success"] - row[k]) for row in mine] for k in ("success_low", "success_high")]
        axes.errorbar(x, y, yerr=spread, fmt="o", color=color, label=name, elinewidth=0.8, markersize=4)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(plot, "success", "Success in simulation over test NLL, one point a run")


def epochs_plot(rows: Sequence[Row]) -> str:
    """Return test NLL against epochs, a panel a U: early stopping solid, end of run dotted; validation chose sizes."""
    shown = [row for row in rows if row["grid"] in ("main", "regularised")]
    uniques = sorted({rounded(row["unique_tokens"]) for row in shown})
    colors = family_colors(row["factorization"] for row in shown)
    plot = figure(8.4, 2.9 * -(-len(uniques) // 3))
    panels = plot.subplots(-(-len(uniques) // 3), 3, squeeze=False).ravel()
    for axes, unique in zip(panels, uniques, strict=False):
        dress(axes, "epochs", "test NLL, nats a token", f"U = {unique:,}")
        for name, color in colors.items():
            mine = [r for r in shown if r["factorization"] == name and rounded(r["unique_tokens"]) == unique]
            counts = sorted({row["epochs"] for row in mine})
            for protocol, dashes in (("best", "-"), ("final", ":")):
                chosen = [
                    min((r for r in mine if r["epochs"] == count), key=lambda r: r[f"loss_{protocol}"])
                    for count in counts
                ]
                if counts:
                    losses = [row[f"test_{protocol}"] for row in chosen]
                    axes.plot(counts, losses, dashes, marker=".", color=color, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        axes.set_xticks([1, 4, 16, 60, 250, 1000])
    for axes in panels[len(uniques) :]:
        axes.set_visible(False)
    lines = {line.get_label(): line for axes in panels for line in axes.lines if line.get_linestyle() == "-"}
    style = {"ncols": 4, "frameon": False, "fontsize": 9, "labelcolor": INK}
    plot.legend(lines.values(), lines.keys(), loc="outside upper left", **style)
    return to_svg(plot, "epochs", "Test NLL against epochs, one panel a number of unique tokens")


def rounded(value: float) -> int:
    """Return two significant digits of a number of tokens, which whole frames make uneven.

    >>> rounded(2996.0), rounded(274588.0)
    (3000, 270000)
    """
    return int(float(f"{value:.2g}"))
