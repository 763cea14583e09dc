"""The page of ``anyorder fit``: constants with intervals, what they allow to be said, the paper's figures."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from anyorder.laws.law import LAWS
from anyorder.laws.laws import FittedLaws
from anyorder.laws.laws_file import to_dict
from anyorder.laws.runs import Runs
from anyorder.reports.laws import (
    CONSTANT_TITLES,
    HELD_OUT_TITLES,
    QUALITY_TITLES,
    constant_rows,
    headline,
    held_out_rows,
    notes,
    quality_rows,
    sentences,
)
from anyorder.reports.page import render
from anyorder.reports.scaling_plots import law_plots


def scaling_page(laws: FittedLaws, runs: Runs, subtitle: str, title: str = "anyorder fit") -> str:
    """Return the page as HTML that needs no other file."""
    said = sentences(laws)
    numbers = to_dict(laws, said)
    for law in numbers["laws"].values():
        del law["bootstrap"]["samples"]  # they are in laws.json
    return render(
        "scaling.html.j2",
        title=title,
        headline=headline(laws),
        subtitle=subtitle,
        summary=LAWS[laws.config.law].summary,
        notes=notes(laws, runs),
        tables={
            "constants": table(CONSTANT_TITLES, constant_rows(laws)),
            "quality": table(QUALITY_TITLES, quality_rows(laws)),
            "held_out": table(HELD_OUT_TITLES, held_out_rows(laws)),
        },
        pairs=said.pairs,
        plots={name: Markup(svg) for name, svg in law_plots(runs, laws).items()},
        numbers=numbers,
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what the template's table macro takes."""
    return {"titles": titles, "rows": rows}
