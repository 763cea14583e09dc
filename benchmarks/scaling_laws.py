"""The figures and tables of docs/scaling-laws.md, from the runs in docs/scaling-laws; takes a minute.

    python benchmarks/scaling_laws.py

``runs.parquet`` is what ``anyorder study collect`` wrote. Tables stand in the document between ``<!-- name -->`` and
``<!-- /name -->``; what is said about them is written by hand.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
from scipy import stats

from anyorder.reports.palette import PALETTE
from anyorder.reports.scaling import CONSTANT_TITLES, HELD_OUT_TITLES, constant_rows, held_out_rows, notes
from anyorder.reports.scaling_plots import (
    critical_plot,
    decay_plot,
    extrapolation_plot,
    isoflop_plot,
    pareto_plot,
    residual_plot,
)
from anyorder.reports.svg import INK, dress, figure, plain_numbers, to_svg
from anyorder.scaling.config import FitConfig
from anyorder.scaling.facts import facts_of
from anyorder.scaling.laws import Laws, fit_laws
from anyorder.scaling.runs import Runs, of_families, read_table, runs_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling-laws.md"
FOLDER = DOCUMENT.with_suffix("")
PROTOCOLS = {"final": "at the end of a run", "best": "early stopping"}
LEAST_RUNS = 25
"""A family of fewer runs gets no law."""
GREY = "#7d8590"
"""Ink of a figure that is a file of its own: readable on white and on black."""

Row = dict[str, Any]


def main() -> None:
    """Write every figure and table."""
    table = read_table(FOLDER / "runs.parquet")
    rows: list[Row] = table.to_pylist()
    tables = {
        "runs": runs_table(rows),
        "repeats": repeats_table(rows),
        "regularisation": settings_table(rows, "ar", regularisations(rows)),
        "orders": orders_table(rows),
    }
    save("epochs", epochs_plot(rows))
    if any(row["success"] is not None for row in rows):
        tables["success"] = success_text(rows)
        save("success", success_plot(rows))
    for protocol in PROTOCOLS:
        laws, runs = fitted(table, protocol)
        tables[f"laws-{protocol}"] = laws_text(laws, runs)
        for name, svg in law_plots(laws, runs).items():
            save(f"{name}-{protocol}", svg)
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), tables))


def fitted(table: pa.Table, protocol: str) -> tuple[Laws, Runs]:
    """Fit all families that have runs enough, the law chosen by held-out runs."""
    names = table["factorization"].to_pylist()
    families = [name for name in dict.fromkeys(names) if names.count(name) >= LEAST_RUNS]
    chosen, column = of_families(table, families), f"loss_{protocol}"
    runs = runs_of(chosen, column)[0]
    return fit_laws(runs, FitConfig(), choose=True, facts=facts_of(chosen, runs, column)), runs


def laws_text(laws: Laws, runs: Runs) -> str:
    """Return the constants, how the law was chosen, and where families cross."""
    critical = "\n".join(f"- {pair.text()}" for pair in laws.pairs)
    minded = "\n".join(f"- {line}" for line in notes(laws, runs))
    held_out = markdown(HELD_OUT_TITLES, held_out_rows(laws))
    return "\n\n".join(
        [markdown(CONSTANT_TITLES, constant_rows(laws)), minded, f"Critical compute:\n\n{critical}", held_out]
    )


def law_plots(laws: Laws, runs: Runs) -> dict[str, str]:
    """Return the figures of the paper."""
    return {
        "pareto": pareto_plot(runs),
        "isoflop": isoflop_plot(runs, laws),
        "decay": decay_plot(laws),
        "extrapolation": extrapolation_plot(runs, laws),
        "critical": critical_plot(laws),
        "residuals": residual_plot(runs, laws),
    }


def runs_table(rows: Sequence[Row]) -> str:
    """Return what was run, a row a family."""
    lines = []
    for family in dict.fromkeys(row["factorization"] for row in rows):
        mine = [row for row in rows if row["factorization"] == family]
        lines.append(
            [
                family,
                str(len(mine)),
                *(span([row[k] for row in mine]) for k in ("params", "unique_tokens", "epochs")),
                f"{sum(row['flops'] for row in mine):.2g}",
                f"{sum(row['cpu_s'] for row in mine) / 60:.0f}",
            ]
        )
    hours = sum(row["wall_s"] for row in rows) / 3600
    total = (
        f"{len(rows)} runs, {hours:.1f} hours of one core, {len(rows) / hours:.0f} runs an hour of one core."
    )
    titles = ("family", "runs", "parameters", "unique tokens", "epochs", "FLOPs", "CPU minutes")
    return f"{markdown(titles, lines)}\n\n{total}"


def repeats_table(rows: Sequence[Row]) -> str:
    """Return masked less AR, test NLL, over unique tokens and epochs, averaged over equal sizes."""
    main_rows = [row for row in rows if plain(row)]
    ar = {key(row): row for row in main_rows if row["factorization"] == "ar"}
    pairs = [(ar[key(row)], row) for row in main_rows if row["factorization"] == "masked" and key(row) in ar]
    epochs = sorted({row["epochs"] for _, row in pairs})
    uniques = sorted({rounded(row["unique_tokens"]) for _, row in pairs})
    parts = []
    for protocol, words in PROTOCOLS.items():
        lines = []
        for unique in uniques:
            cells = [f"{unique:,}"]
            for count in epochs:
                gaps = [
                    other[f"test_{protocol}"] - one[f"test_{protocol}"]
                    for one, other in pairs
                    if rounded(one["unique_tokens"]) == unique and one["epochs"] == count
                ]
                cells.append(mean_text(gaps))
            lines.append(cells)
        titles = (f"U, {words}", *(f"{count} epochs" for count in epochs))
        parts.append(markdown(titles, lines))
    return "\n\n".join(parts)


def regularisations(rows: Sequence[Row]) -> list[str]:
    """Return the regularised variants of AR that were swept."""
    sweeps = ("weight_decay", "dropout", "attention_dropout", "token_masking")
    names = [row["factorization"] for row in rows if row["grid"] in sweeps]
    return [name for name in dict.fromkeys(names) if name.split()[0] == "ar"]


def settings_table(rows: Sequence[Row], base: str, names: Sequence[str]) -> str:
    """Return test NLL of families on the cells that all of them have, early stopping and final."""
    wanted = list(dict.fromkeys([base, *names, "masked"]))
    by_name = {name: {key(row): row for row in rows if row["factorization"] == name} for name in wanted}
    cells = sorted(set.intersection(*(set(found) for found in by_name.values())), key=lambda k: (k[1], k[2]))
    lines = []
    for name, found in by_name.items():
        values = [f"{found[c]['test_best']:.3f} / {found[c]['test_final']:.3f}" for c in cells]
        gaps = [found[c]["test_best"] - by_name[base][c]["test_best"] for c in cells]
        lines.append([name, *values, "" if name == base else mean_text(gaps)])
    titles = [f"U = {rounded(unique):,}, {epochs} epochs" for _, unique, epochs, _ in cells]
    return markdown(("family, best / final", *titles, f"best, against {base}"), lines)


def orders_table(rows: Sequence[Row]) -> str:
    """Return test NLL over the number of orders, plain and regularised."""
    names = ["ar", "orders2", "orders4", "orders16", "orders64"]
    parts = [settings_table(rows, "ar", names)]
    regularised = [row["factorization"] for row in rows if row["grid"] == "orders_regularised"]
    if regularised:
        words = regularised[0].partition(" ")[2]
        parts.append(settings_table(rows, f"ar {words}", [f"{name} {words}" for name in (*names, "masked")]))
    return "\n\n".join(parts)


def success_text(rows: Sequence[Row]) -> str:
    """Say how test NLL and success rank the runs alike, and list the runs."""
    rolled = sorted((row for row in rows if row["success"] is not None), key=lambda row: row["test_final"])
    nll = np.array([row["test_final"] for row in rolled])
    success = np.array([row["success"] for row in rolled])
    draws = np.random.default_rng(0).integers(len(rolled), size=(2000, len(rolled)))
    resampled = np.array([stats.spearmanr(nll[d], success[d]).statistic for d in draws])
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    rank = stats.spearmanr(nll, success).statistic
    told = (
        f"Spearman's rank correlation of test NLL and success over {len(rolled)} runs: {rank:.2f} "
        f"(95 % over resampled runs: {low:.2f} to {high:.2f}); -1 is equal ranking."
    )
    lines = [
        [
            row["factorization"],
            f"{row['params']:,}",
            f"{rounded(row['unique_tokens']):,}",
            str(row["epochs"]),
            f"{row['test_final']:.3f} ± {row['test_final_se']:.3f}",
            f"{row['success']:.0%} [{row['success_low']:.0%}, {row['success_high']:.0%}]",
        ]
        for row in rolled
    ]
    titles = ("family", "parameters", "U", "epochs", "test NLL", "success (Wilson)")
    return f"{told}\n\n{markdown(titles, lines)}"


def success_plot(rows: Sequence[Row]) -> str:
    """Return success over test NLL."""
    plot = figure(8.4, 3.4)
    axes = plot.subplots()
    dress(axes, "test NLL at the end of the run, nats per action token", "success, %")
    rolled = [row for row in rows if row["success"] is not None]
    colours = colour_of([row["factorization"].split()[0] for row in rolled])
    for name, colour in colours.items():
        mine = [row for row in rolled if row["factorization"].split()[0] == name]
        x, y = ([scale * row[k] for row in mine] for k, scale in (("test_final", 1), ("success", 100)))
        spread = [
            [100 * abs(row["success"] - row[k]) for row in mine] for k in ("success_low", "success_high")
        ]
        axes.errorbar(x, y, yerr=spread, fmt="o", color=colour, label=name, elinewidth=0.8, markersize=4)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(plot, "success", "Success in simulation over test NLL, one point a run")


def epochs_plot(rows: Sequence[Row]) -> str:
    """Return the lowest loss over sizes against epochs, a panel a U: early stopping solid, final dashed."""
    shown = [row for row in rows if row["grid"] in ("main", "regularised")]
    uniques = sorted({rounded(row["unique_tokens"]) for row in shown})
    colours = colour_of([row["factorization"] for row in shown])
    plot = figure(8.4, 2.9 * -(-len(uniques) // 3))
    panels = plot.subplots(-(-len(uniques) // 3), 3, squeeze=False).ravel()
    for axes, unique in zip(panels, uniques, strict=False):
        dress(axes, "epochs", "test NLL, nats a token", f"U = {unique:,}")
        for name, colour in colours.items():
            mine = [r for r in shown if r["factorization"] == name and rounded(r["unique_tokens"]) == unique]
            counts = sorted({row["epochs"] for row in mine})
            for protocol, dashes in (("best", "-"), ("final", ":")):
                lowest = [
                    min(row[f"test_{protocol}"] for row in mine if row["epochs"] == count) for count in counts
                ]
                label = name if protocol == "best" else None
                axes.plot(counts, lowest, dashes, marker=".", color=colour, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        axes.set_xticks([1, 4, 16, 60, 250, 1000])
    for axes in panels[len(uniques) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(
        plot, "epochs", "Lowest test NLL over sizes against epochs, one panel a number of unique tokens"
    )


def colour_of(names: Sequence[str]) -> dict[str, str]:
    """Return a colour a name, in the order of their first appearance."""
    found = list(dict.fromkeys(names))
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(found)}


def plain(row: Row) -> bool:
    """Whether a run has no other regularisation than the study's own."""
    return " " not in row["factorization"]


def key(row: Row) -> tuple[int, float, int, int]:
    """What two runs must share to be compared: width, unique tokens, epochs, seed."""
    return row["width"], row["unique_tokens"], row["epochs"], row["seed"]


def rounded(value: float) -> int:
    """Return two significant digits of a number of tokens, which whole frames make uneven.

    >>> rounded(2996.0), rounded(274588.0)
    (3000, 270000)
    """
    return int(float(f"{value:.2g}"))


def mean_text(values: Sequence[float]) -> str:
    """Return a mean with its standard error over runs."""
    if not values:
        return ""
    mean = f"{np.mean(values):+.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def span(values: Sequence[float]) -> str:
    """Return the least and the greatest."""
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(document: str, tables: dict[str, str]) -> str:
    """Put tables between their marks.

    Raises:
        ValueError: the document has no marks for one of them.
    """
    for name, text in tables.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(document):
            raise ValueError(f"{DOCUMENT.name} has no place for {name!r}")
        put: Callable[[re.Match[str]], str] = lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}"  # noqa: E731
        document = marks.sub(put, document)
    return document


def save(name: str, svg: str) -> None:
    """Write a figure as a file of its own; an empty one is left out."""
    path = FOLDER / f"{name}.svg"
    path.unlink(missing_ok=True)
    if svg:
        path.write_text(svg.replace("currentColor", GREY) + "\n")


if __name__ == "__main__":
    main()
