"""Plots of runs, each an inline SVG: success, validation NLL, validation loss, training loss."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from anyorder.reports.runs import RunSummary
from anyorder.reports.style import Look, looks
from anyorder.reports.svg import INK, dress, one_panel, several_panels, to_svg
from anyorder.reports.table import percent

TOKENS = "token families"
LEGEND_CHARACTERS = 115  # as many fit beside each other

Curve = tuple[Sequence[int], Sequence[float]]
"""Steps and values."""


def success_plot(runs: Sequence[RunSummary]) -> str:
    """Return bars of the success rate with Wilson's 95 % intervals; empty without rollouts."""
    shown = [(run, run.rollouts) for run in runs if run.rollouts is not None]
    if not shown:
        return ""
    style = looks(runs)
    plot, axes = one_panel(0.75 + 0.46 * len(shown), "success rate, %, with Wilson's 95 % interval", "")
    for row, (run, rollouts) in enumerate(shown):
        low, high = rollouts.interval
        axes.barh(row, 100 * rollouts.rate, height=0.62, color=style[run.name].color, alpha=0.78)
        axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1.6, solid_capstyle="butt")
        axes.plot([100 * low, 100 * high], [row, row], "|", color=INK, markersize=9, markeredgewidth=1.6)
        text = f"{rollouts.successes}/{rollouts.episodes}  [{percent(low)}, {percent(high)}]"
        axes.text(102, row, text, color=INK, fontsize=9.5, va="center")
    axes.set_yticks(range(len(shown)), [run.label for run, _ in shown], fontsize=10, parse_math=False)
    axes.set_ylim(len(shown) - 0.45, -0.55)
    axes.set_xlim(0, 100)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    described = "; ".join(f"{run.label} {r.successes} of {r.episodes}" for run, r in shown)
    return to_svg(plot, "success", f"Success rates: {described}")


def nll_plot(runs: Sequence[RunSummary]) -> str:
    """Return validation NLL per action value over steps; exact solid, bounds dashed, band = standard error."""
    shown = [run for run in runs if run.final is not None and run.final.nll_nats_per_value is not None]
    if not shown:
        return ""
    style = looks(runs)
    plot, axes = one_panel(3.7, "optimiser step", "validation NLL, nats per action value")
    for run in shown:
        scores = [score for score in run.validations if score.nll_nats_per_value is not None]
        steps = [score.step for score in scores]
        nll = np.array([score.nll_nats_per_value for score in scores], dtype=float)
        error = np.array([score.standard_error_nats_per_value or 0.0 for score in scores])
        look = style[run.name]
        _line(axes, steps, nll.tolist(), look)
        axes.fill_between(steps, nll - error, nll + error, color=look.color, alpha=0.13, linewidth=0)
    meaning = {True: ", exact", False: ", upper bound"}
    _legend(plot, [(run.label + meaning[bool(run.exact)], style[run.name]) for run in shown])
    _step_axis(axes)
    return to_svg(plot, "nll", "Validation NLL in nats per action value over optimiser steps")


def validation_loss_plot(runs: Sequence[RunSummary]) -> str:
    """Return the validation loss of continuous families, one panel a family, since their losses differ in kind."""
    curves = {
        run.name: ([s.step for s in run.validations], [s.loss for s in run.validations])
        for run in runs
        if run.exact is None and run.validations
    }
    return _loss_panels("validation", runs, curves, smooth=False)


def training_loss_plot(runs: Sequence[RunSummary]) -> str:
    """Return the training loss, token families in one panel, each continuous family in one of its own."""
    curves = {
        run.name: ([step for step, _ in run.training], [loss for _, loss in run.training])
        for run in runs
        if run.training
    }
    return _loss_panels("training", runs, curves, smooth=True)


def moving_average(values: Sequence[float], window: int) -> np.ndarray:
    """Return the centred mean over ``window`` values, over fewer at the ends.

    >>> moving_average([0.0, 3.0, 0.0, 3.0], 3).tolist()
    [1.5, 1.0, 2.0, 1.5]
    """
    ones = np.ones(window)
    total = np.convolve(values, ones, mode="full")
    number = np.convolve(np.ones(len(values)), ones, mode="full")
    start = (window - 1) // 2
    return (total / number)[start : start + len(values)]


def _loss_panels(kind: str, runs: Sequence[RunSummary], curves: Mapping[str, Curve], *, smooth: bool) -> str:
    shown = [run for run in runs if run.name in curves]
    if not shown:
        return ""
    style = looks(runs)
    panels: dict[str, list[RunSummary]] = {}
    for run in shown:
        panels.setdefault(TOKENS if run.exact is not None else run.family, []).append(run)
    plot, grid = several_panels(len(panels), 3, 2.6, 0.3)
    for axes, (family, members) in zip(grid, panels.items(), strict=True):
        unit = ", nats per chunk" if family == TOKENS else " per value"
        dress(axes, "optimiser step", f"{kind} loss{unit}", members[0].label if len(members) == 1 else family)
        for run in members:
            steps, values = curves[run.name]
            if smooth and len(values) >= 20:
                axes.plot(steps, values, color=style[run.name].color, alpha=0.25, linewidth=0.8)
                values = moving_average(values, max(3, len(values) // 20)).tolist()
            _line(axes, steps, values, style[run.name], markers=not smooth)
        _step_axis(axes)
    # A panel of one run has its name as the title.
    named = [run for members in panels.values() if len(members) > 1 for run in members]
    _legend(plot, [(run.label, style[run.name]) for run in named], markers=not smooth)
    return to_svg(plot, kind, f"{kind.capitalize()} loss over optimiser steps")


def _line(axes: Axes, steps: Sequence[int], values: Sequence[float], look: Look, *, markers: bool = True) -> None:
    axes.add_line(_handle(look, markers, steps, values))
    axes.autoscale_view()


def _handle(look: Look, markers: bool, steps: Sequence[int] = (), values: Sequence[float] = ()) -> Line2D:
    return Line2D(
        steps,
        values,
        linestyle="--" if look.dashed else "-",
        color=look.color,
        linewidth=1.9,
        marker=look.marker if markers else "",
        markersize=4.5,
        markevery=max(1, len(steps) // 12),
        label="run",
    )


def _legend(plot: Figure, entries: Sequence[tuple[str, Look]], *, markers: bool = True) -> None:
    if not entries:
        return
    columns = max(1, min(3, LEGEND_CHARACTERS // (8 + max(len(label) for label, _ in entries))))
    # The legend takes its space from the plot, so give some back.
    plot.set_figheight(plot.get_figheight() + 0.19 * (-(-len(entries) // columns) - 1))
    handles = [_handle(look, markers) for _, look in entries]
    legend = plot.legend(
        handles=handles,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        handlelength=2.6,
        columnspacing=2.0,
    )
    # Set afterwards, as matplotlib gives `_` and `$` in a legend's label meanings of their own.
    for text, (label, _) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def _step_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.set_xlim(left=0)
