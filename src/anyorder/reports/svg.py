"""Figures as SVG that can stand inside a page: no outside references, the page's ink and fonts."""

import html
import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Stands for the page's text color, which a figure cannot know; `to_svg` puts it back.
INK = "#0b0c0d"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(height_in: float) -> Figure:
    """Make a figure as wide as a page, without background; pyplot's global state is not touched."""
    return Figure(figsize=(8.4, height_in), layout="constrained", facecolor="none")


def one_panel(height_in: float, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a figure with one set of axes."""
    plot = figure(height_in)
    axes = plot.subplots()
    dress(axes, xlabel, ylabel)
    return plot, axes


def several_panels(count: int, most: int, row_in: float, more_in: float = 0.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` sets of axes, at ``most`` that many a row; those to spare are hidden."""
    columns = min(most, count)
    rows = -(-count // columns)
    plot = figure(row_in * rows + more_in)
    panels = plot.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_visible(False)
    return plot, list(panels[:count])


def dress(axes: Axes, xlabel: str, ylabel: str, title: str = "") -> None:
    """Label the axes and keep only the lines that carry numbers."""
    axes.set_facecolor("none")
    axes.set_xlabel(xlabel, color=INK, fontsize=10)
    axes.set_ylabel(ylabel, color=INK, fontsize=10)
    if title:
        axes.set_title(title, color=INK, fontsize=10.5, loc="left", fontweight="bold", parse_math=False)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(True, color=INK, alpha=0.13, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_alpha(0.45)


def plain_numbers(axis: Axis) -> None:
    """Label 1, 2, 5, 10, ... as plain numbers: decades alone may be too few, and powers are harder to read."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def powers_of_ten(axis: Axis) -> None:
    """Label decades as 10¹⁸ in plain text: matplotlib's own labels go through its TeX parser, which is slow."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_formatter(NullFormatter())


def power_of_ten(value: float) -> str:
    """Write a number as a multiple of a power of ten.

    >>> power_of_ten(1e18), power_of_ten(0.01), power_of_ten(5e7)
    ('10¹⁸', '10⁻²', '5·10⁷')
    """
    digits, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return power if digits == "1" else f"{digits}·{power}"


def to_svg(plot: Figure, name: str, description: str) -> str:
    """Return the figure as an ``<svg>`` element.

    Ids in it begin with ``name``, which must differ between the figures of one page; ``description`` says what it
    shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    # Text stays text (searchable, in the page's font); the salt makes the same figure the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        plot.savefig(buffer, format="svg", metadata={"Date": None})
    content = buffer.getvalue()
    content = content[content.index("<svg") :]
    content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
    content = re.sub(r'\bid="', f'id="{name}-', content)
    content = re.sub(r"url\(#", f"url(#{name}-", content)
    content = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', content)
    content = re.sub(r"font: ([^;\"']*?)'DejaVu Sans'[^;\"]*", r"font: \1inherit", content)
    content = content.replace(INK, "currentColor")
    label = html.escape(description, quote=True)
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', rf'<svg role="img" aria-label="{label}" \1', content, count=1).strip()
