"""The page of ``anyorder fit``: constants with intervals, what they allow to be said, the paper's figures."""

from markupsafe import Markup

from anyorder.laws.law import LAWS
from anyorder.laws.laws import FittedLaws
from anyorder.laws.laws_file import to_dict
from anyorder.laws.runs import Runs
from anyorder.reports.laws import constant_table, headline, held_out_table, notes, quality_table, sentences
from anyorder.reports.page import render
from anyorder.reports.scaling_plots import law_plots


def scaling_page(laws: FittedLaws, runs: Runs, subtitle: str) -> str:
    """Return the page as HTML that needs no other file."""
    said = sentences(laws)
    numbers = to_dict(laws, said)
    for law in numbers["laws"].values():
        del law["bootstrap"]["samples"]  # they are in laws.json
    return render(
        "scaling.html.j2",
        title="anyorder fit",
        headline=headline(laws),
        subtitle=subtitle,
        summary=LAWS[laws.config.law].summary,
        notes=notes(laws, runs),
        tables={"constants": constant_table(laws), "quality": quality_table(laws), "held_out": held_out_table(laws)},
        pairs=said.pairs,
        plots={name: Markup(svg) for name, svg in law_plots(runs, laws).items()},
        numbers=numbers,
    )
