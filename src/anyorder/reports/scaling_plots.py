"""Plots of scaling laws, each an inline SVG: the figures of arXiv 2507.15857 for a user's runs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anyorder.laws.critical import best_loss
from anyorder.laws.intervals import percentiles
from anyorder.laws.law import CONSTANTS, FLOPS_PER_PARAM_TOKEN, effective_tokens, predict
from anyorder.laws.laws import FittedLaws
from anyorder.laws.runs import Runs
from anyorder.reports.palette import MARKERS, family_colors
from anyorder.reports.svg import INK, dress, figure, one_panel, plain_numbers, powers_of_ten, several_panels, to_svg

SHADES = (1.0, 0.75, 0.52, 0.35, 0.22)
NEAR = 1.5
"""Runs within this factor of a curve's compute and unique tokens are drawn with it."""
FLOPS = "training compute, FLOPs"


def law_plots(runs: Runs, laws: FittedLaws) -> dict[str, str]:
    """Return all figures by name; one with nothing to show is empty."""
    return {
        "pareto": pareto_plot(runs),
        "isoflop": isoflop_plot(runs, laws),
        "decay": decay_plot(laws),
        "extrapolation": extrapolation_plot(runs, laws),
        "critical": critical_plot(laws),
        "residuals": residual_plot(runs, laws),
    }


def pareto_plot(runs: Runs) -> str:
    """Return the lowest loss at up to a compute: all runs solid, runs of one epoch alone dotted."""
    plot, axes = one_panel(3.9, FLOPS, "validation loss, nats")
    for family, color in family_colors(runs.families).items():
        mine = runs.of(family)
        once = mine.single_epoch
        axes.plot(mine.flops[~once], mine.loss[~once], "o", color=color, alpha=0.35, markersize=3.5)
        axes.plot(mine.flops[once], mine.loss[once], "o", color=color, alpha=0.6, markersize=4, mfc="none")
        _front(axes, mine, color, "-", family)
        _front(axes, mine.where(once), color, ":", f"{family}, one epoch")
    log_axes(axes)
    return finished(plot, axes, "pareto", "Lowest loss at up to a training compute, by family")


def isoflop_plot(runs: Runs, laws: FittedLaws) -> str:
    """Return loss over parameters at fixed compute, one panel a family, at the U with most runs."""
    families = runs.families
    plot, panels = several_panels(len(families), 2, 3.6)
    for axes, (family, color) in zip(panels, family_colors(families).items(), strict=True):
        mine, constants = runs.of(family), laws.families[family].constants
        u = common_unique(mine)
        beside = mine.where(np.abs(np.log(mine.unique_tokens / u)) < np.log(NEAR))
        dress(axes, "parameters", "validation loss, nats", f"{family}, U = {u:.2g}")
        n = np.geomspace(mine.params.min() / 2, mine.params.max() * 2, 120)
        lowest, highest = np.quantile(beside.flops, [0.1, 0.9]).tolist()
        levels = np.geomspace(lowest, highest, len(SHADES))
        for shade, flops in zip(SHADES[::-1], levels, strict=True):
            d = flops / FLOPS_PER_PARAM_TOKEN / n
            loss, fresh = predict(constants, n, d, u), d <= u
            label = f"{flops:.1e} FLOPs"
            axes.plot(n[~fresh], loss[~fresh], color=color, alpha=shade, label=label)
            axes.plot(n[fresh], loss[fresh], ":", color=color, alpha=shade)
            close = np.abs(np.log(beside.flops / flops)) < np.log(NEAR)
            axes.plot(beside.params[close], beside.loss[close], "o", color=color, alpha=shade, markersize=4)
        log_axes(axes)
        # A law's own steep ends would hide where the runs are.
        axes.set_ylim(beside.loss.min() * 0.95, beside.loss.max() * 1.3)
        axes.legend(frameon=False, fontsize=7.5, labelcolor=INK)
    return to_svg(plot, "isoflop", "Loss over parameters at fixed training compute, by family")


def decay_plot(laws: FittedLaws) -> str:
    """Return what a token is worth, D' / D, over epochs, with 95 % bands over the bootstrap."""
    plot, axes = one_panel(3.9, "epochs over the same data, D / U", "worth of a token, D' / D")
    epochs = np.geomspace(1, 1000, 100)
    r_d = CONSTANTS.index("R_D")
    for number, (family, color) in enumerate(family_colors(laws.families).items()):
        law = laws.families[family]
        low, high = percentiles(effective_tokens(epochs, 1.0, law.samples[:, r_d, None]) / epochs).T
        axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
        worth = effective_tokens(epochs, 1.0, law.constants[r_d]) / epochs
        label = f"{family}, R_D = {law.constants[r_d]:.3g}"
        axes.plot(epochs, worth, color=color, marker=MARKERS[number % len(MARKERS)], markevery=12, label=label)
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_ylim(0, 1.03)
    return finished(plot, axes, "decay", "Worth of a repeated token over epochs, by family")


def extrapolation_plot(runs: Runs, laws: FittedLaws) -> str:
    """Return the law's lowest loss over compute for some U, repeated data solid, fresh data without end dotted."""
    families = runs.families
    plot, panels = several_panels(len(families), 2, 3.6)
    flops = np.geomspace(runs.flops.min(), 100 * runs.flops.max(), 80)
    for axes, (family, color) in zip(panels, family_colors(families).items(), strict=True):
        constants = laws.families[family].constants
        dress(axes, FLOPS, "lowest loss over N, nats", family)
        axes.axvspan(runs.flops.max(), flops[-1], color=INK, alpha=0.05, linewidth=0)
        for shade, u in zip(SHADES, some_unique(runs, 4), strict=False):
            axes.plot(flops, best_loss(constants, flops, u)[0], color=color, alpha=shade, label=f"U = {u:.2g}")
        fresh = best_loss(constants, flops, np.inf)[0]
        axes.plot(flops, fresh, ":", color=color, label="fresh data")
        log_axes(axes)
        axes.legend(frameon=False, fontsize=7.5, labelcolor=INK)
    return to_svg(plot, "extrapolation", "Lowest loss over compute, repeated and fresh data, by family")


def critical_plot(laws: FittedLaws) -> str:
    """Return C_crit over U of every pair, E kept solid, dropped dashed, with 95 % intervals; empty without any."""
    plot, axes = one_panel(3.9, "unique tokens U", "critical compute, FLOPs")
    names = [" / ".join(pair.families) for pair in laws.pairs]
    drawn = False
    for pair, name in zip(laws.pairs, names, strict=True):
        met = [point for point in pair.crossings if np.isfinite(point.flops)]
        if not met:
            continue
        drawn = True
        color = family_colors(f"pair {n}" for n in dict.fromkeys(names))[f"pair {name}"]
        dashes = "-" if pair.keep_e else "--"
        u = np.array([point.unique_tokens for point in met])
        flops = np.array([point.flops for point in met])
        for point in met:
            axes.plot(
                [point.unique_tokens] * 2, point.interval, color=color, alpha=0.5, linewidth=4 if pair.keep_e else 2
            )
        axes.plot(u, flops, "o" if pair.keep_e else "s", color=color, markersize=5)
        label = f"{name}, E {'kept' if pair.keep_e else 'dropped'}"
        line = flops
        if pair.line is not None:
            line = np.array([pair.line.flops(tokens) for tokens in u])
            label += f": C ~ U^{1 / pair.line.slope:.2f}"
        axes.plot(u, line, dashes, color=color, linewidth=1.6, label=label)
    if not drawn:
        return ""
    log_axes(axes)
    return finished(plot, axes, "critical", "Critical compute over unique tokens, by pair of families")


def residual_plot(runs: Runs, laws: FittedLaws) -> str:
    """Return measured over predicted loss, in percent, over epochs and over parameters."""
    plot = figure(3.1)
    panels = plot.subplots(1, 2, sharey=True)
    for axes, label in zip(panels, ("epochs, D / U", "parameters"), strict=True):
        dress(axes, label, "")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        powers_of_ten(axes.xaxis)
    panels[0].set_ylabel("measured over predicted, %", color=INK, fontsize=10)
    for family, color in family_colors(runs.families).items():
        mine = runs.of(family)
        loss = predict(laws.families[family].constants, mine.params, mine.tokens, mine.unique_tokens)
        excess = 100 * (mine.loss / loss - 1)
        for axes, x in zip(panels, (mine.epochs, mine.params), strict=True):
            axes.plot(x, excess, "o", color=color, alpha=0.6, markersize=3.5, label=family)
    return finished(plot, panels[0], "residuals", "Measured over predicted loss, over epochs and over parameters")


def common_unique(runs: Runs) -> float:
    """Return the U that most runs are near to."""
    places = np.round(np.log(runs.unique_tokens) / np.log(NEAR))
    values, counts = np.unique(places, return_counts=True)
    return float(np.median(runs.unique_tokens[places == values[np.argmax(counts)]]))


def some_unique(runs: Runs, count: int) -> list[float]:
    """Return up to ``count`` values of U among those of the runs, evenly spread, smallest first."""
    values = np.unique(runs.unique_tokens)
    return values[np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))].tolist()


def log_axes(axes: Axes) -> None:
    """Make both axes logarithmic; what spans less than two decades, as a loss does, has plain numbers."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        if high < 100 * low and high < 1e5:
            plain_numbers(axis)
        else:
            powers_of_ten(axis)


def finished(plot: Figure, axes: Axes, name: str, description: str) -> str:
    """Add the legend and return the SVG."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 50 else 3
    legend = plot.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=9, labelcolor=INK
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return to_svg(plot, name, description)


def _front(axes: Axes, runs: Runs, color: str, dashes: str, label: str) -> None:
    if not len(runs):
        return
    order = np.argsort(runs.flops)
    lowest = np.minimum.accumulate(runs.loss[order])
    axes.step(runs.flops[order], lowest, dashes, where="post", color=color, linewidth=1.8, label=label)
