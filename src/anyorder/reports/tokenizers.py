"""The page of ``anyorder tokenize``: tables, the worst chunks and, where measured, rate against distortion."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from anyorder.files import finite
from anyorder.reports.page import render
from anyorder.reports.palette import MARKERS, PALETTE
from anyorder.reports.settings_diff import flatten, written
from anyorder.reports.svg import INK, dress, one_panel, plain_numbers, several_panels, to_svg
from anyorder.reports.tokenizer_tables import curve_content, report_contents
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.rate_distortion import RateDistortion, RatePoint
from anyorder.tokenizers.report import TokenizerReport, WorstChunk

TITLE_CHARACTERS = 24  # as many fit above a third of the width
ORIGINAL_COLOR, DECODED_COLOR = PALETTE[0], PALETTE[1]


def tokenizer_page(
    report: TokenizerReport, config: TokenizerConfig, subtitle: str, curve: RateDistortion | None = None
) -> str:
    """Return the page as HTML that needs no other file.

    The point of the tokenizer's settings is marked on the curve of several settings, which is left out where None.
    """
    return render(
        "tokenizer.html.j2",
        title="anyorder tokenize",
        headline=headline(report),
        subtitle=subtitle,
        tables={**report_contents(report), "points": curve_content(curve)},
        settings=[(name, written(value)) for name, value in flatten(config.options()).items()],
        worst_plot=Markup(worst_plot(report.worst)),
        curve_plot=Markup("" if curve is None else curve_plot(curve, config)),
        skipped=() if curve is None else curve.skipped,
        jitter=None if report.steadiness is None else report.steadiness.jitter,
        numbers=numbers(report, config, curve),
    )


def headline(report: TokenizerReport) -> str:
    """Say in one sentence what the tokenizer costs and loses."""
    return (
        f"{report.tokenizer}: {report.tokens_mean:.1f} tokens and {report.bits_unigram:.0f} bits for a chunk of "
        f"{report.values_per_chunk} values, which come back with an rmse of {report.rmse_normalised:.2g} of "
        "half their range."
    )


def numbers(report: TokenizerReport, config: TokenizerConfig, curve: RateDistortion | None) -> Mapping[str, Any]:
    """Return everything on the page, JSON-ready; not-a-number becomes null."""
    settings = {"tokenizer": config.choice, **config.options()}
    return finite(
        {"settings": settings, "report": report.to_dict(), "curve": None if curve is None else curve.to_dict()}
    )


def drawable(points: Sequence[RatePoint]) -> list[RatePoint]:
    """Return the points that have a place on logarithmic axes."""
    return [p for p in points if p.bits_unigram > 0 and p.rmse_normalised > 0]


def curve_plot(curve: RateDistortion, chosen: TokenizerConfig) -> str:
    """Return normalised rmse over bits per chunk, one line a tokenizer, the chosen settings ringed.

    Points without bits or without error have no place on logarithmic axes; empty where no point has one.
    """
    points = drawable(curve.points)
    if not points:
        return ""
    plot, axes = one_panel(4.6, "bits per chunk, unigram", "rmse, normalised units")
    axes.set_xscale("log")
    axes.set_yscale("log")
    # A tokenizer keeps its color whichever others are shown.
    order = sorted(TokenizerConfig.choices)
    for name in dict.fromkeys(p.tokenizer for p in points):
        line = [p for p in points if p.tokenizer == name]
        look = order.index(name)
        axes.plot(
            [p.bits_unigram for p in line],
            [p.rmse_normalised for p in line],
            color=PALETTE[look % len(PALETTE)],
            marker=MARKERS[look % len(MARKERS)],
            markersize=5,
            linewidth=1.9 if name == chosen.choice else 1.3,
            label=name,
        )
    for p in points:
        if p.is_of(chosen):
            axes.plot(
                p.bits_unigram,
                p.rmse_normalised,
                "o",
                markersize=14,
                markerfacecolor="none",
                markeredgecolor=INK,
                markeredgewidth=1.8,
                label=f"chosen: {p.tokenizer} {p.label}",
            )
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    plot.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9.5, labelcolor=INK, columnspacing=2.0)
    named = ", ".join(dict.fromkeys(p.tokenizer for p in points))
    return to_svg(plot, "curve", f"Normalised rmse over bits per chunk, both logarithmic, of {named}")


def worst_plot(worst: Sequence[WorstChunk]) -> str:
    """Return original against decoded values over time, one panel a chunk, its worst dimension; empty without."""
    if not worst:
        return ""
    plot, panels = several_panels(len(worst), len(worst), 2.7)
    for axes, chunk in zip(panels, worst, strict=True):
        dress(axes, "time step", "", f"chunk {chunk.index}\n{fill(chunk.dimension, TITLE_CHARACTERS)}")
        steps = range(len(chunk.original))
        axes.plot(steps, chunk.original, color=ORIGINAL_COLOR, marker="o", markersize=3.5, label="original")
        axes.plot(steps, chunk.decoded, color=DECODED_COLOR, marker="s", markersize=3.5, ls="--", label="decoded")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[0].set_ylabel("action units", color=INK, fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9.5, labelcolor=INK)
    described = "; ".join(f"chunk {w.index}, {w.dimension}, off by up to {w.max:.3g}" for w in worst)
    return to_svg(plot, "worst", f"Original and decoded values over time: {described}")
