"""The page of ``anyorder fit``: constants with intervals, what they allow to be said, the paper's figures."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from anyorder.laws.law import CONSTANTS, LAWS
from anyorder.laws.laws import Laws
from anyorder.laws.laws_file import to_dict
from anyorder.laws.runs import Runs
from anyorder.reports.page import render
from anyorder.reports.scaling_plots import law_plots

CONSTANT_TITLES = ("family", "constant", "value", "95 % interval", "identified")
QUALITY_TITLES = ("family", "runs", "objective", "R² on raw losses", "R² with no decay")
HELD_OUT_TITLES = ("law", "mean Huber loss, held-out runs", "median relative error, %", "chosen")


def constant_rows(laws: Laws) -> list[list[str]]:
    """Return one row a constant: its value, interval, and whether the runs tell it."""
    rows = []
    for family, law in laws.laws.items():
        for name, value in zip(CONSTANTS, law.constants.tolist(), strict=True):
            if name in law.intervals:
                interval = law.intervals[name]
                ends = f"{interval.low:.4g} to {interval.high:.4g}"
                rows.append([family, name, f"{value:.4g}", ends, "yes" if interval.identified else "no"])
            elif name in laws.config.held() and name in LAWS[laws.config.law].free:
                rows.append([family, name, f"{value:.4g}", "held", "-"])
    return rows


def quality_rows(laws: Laws) -> list[list[str]]:
    """Return one row a family: how well its law fits."""
    return [
        [family, str(law.runs), f"{law.objective:.7g}", f"{law.r2:.4f}", f"{law.r2_no_decay:.4f}"]
        for family, law in laws.laws.items()
    ]


def held_out_rows(laws: Laws) -> list[list[str]]:
    """Return one row a law that was tried; none where the law was given."""
    return [
        [
            score.law,
            f"{score.loss:.4g}",
            f"{100 * score.median:.2f}",
            "yes" if score.law == laws.config.law else "",
        ]
        for score in laws.held_out
    ]


def notes(laws: Laws, runs: Runs) -> list[str]:
    """Return what to mind: constants that are not identified, and a law that does not suit the runs."""
    several = len(laws.laws) > 1
    lines = [
        f"{family}: {note}" if several else note for family, law in laws.laws.items() for note in law.notes
    ]
    for family in runs.families if {"beta", "R_D"} <= set(laws.config.fitted()) else ():
        once = runs.of(family).single_epoch
        name = f"{family}: " if several else ""
        if once.all():
            lines.append(f"{name}no run repeats its data, so that nothing tells R_D.")
        elif not once.any():
            lines.append(f"{name}no run is of one epoch: what fresh data are worth rests on the law's form.")
    repeated = int((~runs.single_epoch).sum())
    if laws.config.law == "chinchilla" and repeated:
        lines.append(
            f"law=chinchilla counts repeated tokens as fresh, and {repeated} of {len(runs)} runs repeat."
        )
    return lines


def headline(laws: Laws) -> str:
    """Say in one sentence what was found: the crossing where there are families to compare, else the fit."""
    if laws.pairs:
        return laws.pairs[0].text()
    family, law = next(iter(laws.laws.items()))
    told = sum(interval.identified for interval in law.intervals.values())
    share = f"R² {law.r2:.3f}" if math.isfinite(law.r2) else "all losses are equal"
    count = f"{told} of {len(law.intervals)} constants identified"
    return f"{laws.config.law} fitted to {law.runs} runs of {family}: {share}, {count}."


def scaling_page(laws: Laws, runs: Runs, subtitle: str, title: str = "anyorder fit") -> str:
    """Return the page as HTML that needs no other file."""
    numbers = to_dict(laws)
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
        pairs=[pair.text() for pair in laws.pairs],
        plots={name: Markup(svg) for name, svg in law_plots(runs, laws).items()},
        numbers=numbers,
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what the template's table macro takes."""
    return {"titles": titles, "rows": rows}
