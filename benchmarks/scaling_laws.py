"""The figures and tables of docs/scaling-laws.md and its appendix, from the runs in docs/scaling-laws; takes minutes.

    python benchmarks/scaling_laws.py

``runs.parquet`` and its sisters are what ``anyorder study collect`` wrote. Tables stand in the documents
between ``<!-- name -->`` and ``<!-- /name -->``; what is said about them is written by hand.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scaling_figures import Row, epochs_plot, rounded, success_plot
from scipy import stats

from anyorder.laws.advise import advise
from anyorder.laws.config import FitConfig
from anyorder.laws.facts import facts_of
from anyorder.laws.law import AUTO, CONSTANTS
from anyorder.laws.laws import FittedLaws, fit_laws
from anyorder.laws.laws_file import LAWS_FILE, read_laws, write_laws
from anyorder.laws.runs import Runs, of_families, read_table, runs_of
from anyorder.reports.laws import pair_text, sentences
from anyorder.reports.scaling_plots import law_plots
from anyorder.reports.studies import span

DOCS = Path(__file__).parents[1] / "docs"
DOCUMENTS = (DOCS / "scaling-laws.md", DOCS / "scaling-laws-appendix.md")
FOLDER = DOCS / "scaling-laws"
STUDIES = ("", "-so101", "-cr5")
ADVISED = ("so101", "cr5", "drawer")
PROTOCOLS = {"final": "at the end of a run", "best": "early stopping"}
PAPERS = "data_constrained"
LEAST_RUNS = 25
"""A family of fewer runs gets no law."""
GREY = "#7d8590"
"""Ink of a figure that is a file of its own: readable on white and on black."""


def main() -> None:
    """Write every figure and table."""
    tables = {}
    for study in STUDIES:
        table = read_table(FOLDER / f"runs{study}.parquet")
        rows: list[Row] = table.to_pylist()
        dropouts = [name for name in families_of(rows) if name.startswith("ar dropout=")]
        tables[f"runs{study}"] = runs_table(rows)
        tables[f"gaps{study}"] = gaps_table(rows, ["ar"])
        tables[f"gaps-dropout{study}"] = gaps_table(rows, ["ar", *dropouts])
        tables[f"orders{study}"] = orders_table(rows)
        if swept := regularisations(rows):
            tables[f"regularisation{study}"] = settings_table(rows, "ar", [*swept, "masked"])
        if any(row["success"] is not None for row in rows):
            tables[f"success{study}"] = success_text(rows)
            save(f"success{study}", success_plot(rows))
        save(f"epochs{study}", epochs_plot(rows))
    jobs = [(study, protocol, law) for study in STUDIES for protocol in PROTOCOLS for law in (PAPERS, AUTO)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(jobs, pool.map(fitted, *zip(*jobs, strict=True)), strict=True))
    for (study, protocol, law), (laws, runs) in found.items():
        if law == AUTO:
            tables[f"laws-{protocol}{study}"] = laws_text(found[study, protocol, PAPERS][0], laws)
            for name, svg in law_plots(runs, laws).items():
                save(f"{name}-{protocol}{study}", svg)
    tables["advice"] = advice_table(found["", "best", AUTO][0])
    texts = filled([document.read_text() for document in DOCUMENTS], tables)
    for document, text in zip(DOCUMENTS, texts, strict=True):
        document.write_text(text)


def families_of(rows: Sequence[Row]) -> list[str]:
    """Return the families that have runs enough for a law."""
    counts = Counter(row["factorization"] for row in rows)
    return [family for family, count in counts.items() if count >= LEAST_RUNS]


def fitted(study: str, protocol: str, law: str) -> tuple[FittedLaws, Runs]:
    """Fit all families of a study that have runs enough; ``auto`` takes the law that held-out runs choose."""
    table = read_table(FOLDER / f"runs{study}.parquet")
    chosen, column = of_families(table, families_of(table.to_pylist())), f"loss_{protocol}"
    runs = runs_of(chosen, column)[0]
    config = FitConfig(PAPERS if law == AUTO else law)
    return fit_laws(runs, config, choose=law == AUTO, facts=facts_of(chosen, runs, column)), runs


def laws_text(papers: FittedLaws, chosen: FittedLaws) -> str:
    """Return the constants of the paper's law and of the one that was chosen, how, and where masked crosses others."""
    held_out = ", ".join(f"{score.law} {score.median:.1%}" for score in chosen.held_out)
    parts = [
        f"The paper's law:\n\n{constants_table(papers)}",
        f"Median error on held-out runs: {held_out}. By their Huber loss **{chosen.config.law}** was chosen:",
    ]
    if chosen.config.law != papers.config.law:
        parts.append(constants_table(chosen))
    parts.append(
        "\n".join(f"- {pair_text(pair)}" for pair in chosen.pairs if pair.keep_e and "masked" in pair.families)
    )
    return "\n\n".join(parts)


def constants_table(laws: FittedLaws) -> str:
    """Return a row a family: its constants with their joint intervals, weakly identified ones in italics."""
    names = laws.config.fitted()
    rows = []
    for family, law in laws.families.items():
        cells = [family, f"{law.r2:.3f}"]
        for name in names:
            interval = law.intervals[name]
            ends = [f"{end:.2g}" if end < 1e9 else "no end" for end in (interval.low, interval.high)]
            cell = f"{law.constants[CONSTANTS.index(name)]:.3g} [{ends[0]}, {ends[1]}]"
            cells.append(cell if interval.identified else f"*{cell}*")
        rows.append(cells)
    return markdown(("family", "R²", *names), rows)


def advice_table(laws: FittedLaws) -> str:
    """Return what the main study's laws of early stopping expect of other datasets, and what training gave there.

    Both at the same compute and all unique tokens of the other table; there, validation chose size and epochs.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_laws(laws, sentences(laws), Path(folder) / LAWS_FILE)
        known = read_laws(folder)
    lines = []
    for name in ADVISED:
        rows: list[Row] = read_table(FOLDER / f"runs-{name}.parquet").to_pylist()
        unique = max(row["unique_tokens"] for row in rows)
        mine = [row for row in rows if row["unique_tokens"] == unique]
        families = [family for family in known.families if any(r["factorization"] == family for r in mine)]
        flops = max(row["flops"] for row in mine)
        asked = replace(known, families={family: known.families[family] for family in families})
        for outlook in advise(asked, unique, flops).families:
            best = min((row for row in mine if row["factorization"] == outlook.family), key=lambda r: r["loss_best"])
            lines.append(
                [
                    f"{name}, U = {rounded(unique):,}, {flops:.1e} FLOPs",
                    outlook.family,
                    f"{outlook.nll:.3f} [{outlook.interval[0]:.3f}, {outlook.interval[1]:.3f}]",
                    f"{outlook.probability:.2f}",
                    f"{outlook.params:,.0f}, {outlook.epochs:.0f}",
                    f"{best['test_best']:.3f} ± {best['test_best_se']:.3f}",
                    f"{best['params']:,}, {best['epochs_best']:.0f}",
                ]
            )
    titles = ("dataset", "family", "expected NLL", "P(lowest)", "parameters, epochs", "trained, test NLL", "its own")
    return markdown(titles, lines)


def runs_table(rows: Sequence[Row]) -> str:
    """Return what was run: a row a family with a law, one for all others."""
    groups = {name: [name] for name in families_of(rows)}
    others = list(dict.fromkeys(row["factorization"] for row in rows if row["factorization"] not in groups))
    lines = []
    for title, members in [*groups.items(), (f"{len(others)} variants", others)]:
        mine = [row for row in rows if row["factorization"] in members]
        lines.append(
            [
                title,
                str(len(mine)),
                *(span([row[k] for row in mine]) for k in ("params", "unique_tokens", "epochs")),
                f"{sum(row['flops'] for row in mine):.2g}",
                f"{sum(row['cpu_s'] for row in mine) / 60:.0f}",
            ]
        )
    hours = sum(row["wall_s"] for row in rows) / 3600
    total = f"{len(rows)} runs, {hours:.1f} hours of one core: {len(rows) / hours:.0f} runs an hour of one core."
    titles = ("family", "runs", "parameters", "unique tokens", "epochs", "FLOPs", "CPU minutes")
    return f"{markdown(titles, lines)}\n\n{total}"


def gaps_table(rows: Sequence[Row], bases: Sequence[str], other: str = "masked") -> str:
    """Return test NLL of a family less that of others, over unique tokens and epochs, averaged over equal sizes.

    Of several others, the one with the lowest validation loss counts, at each size, unique tokens and epochs.
    """
    found = {name: {key(row): row for row in rows if row["factorization"] == name} for name in (other, *bases)}
    cells = [cell for cell in found[other] if all(cell in found[name] for name in bases)]
    epochs = sorted({cell[2] for cell in cells})
    parts = []
    for protocol, words in PROTOCOLS.items():
        lines = []
        for unique in sorted({rounded(cell[1]) for cell in cells}):
            line = [f"{unique:,}"]
            for count in epochs:
                gaps = []
                for cell in cells:
                    if rounded(cell[1]) == unique and cell[2] == count:
                        base = min((found[name][cell] for name in bases), key=lambda r: r[f"loss_{protocol}"])
                        gaps.append(found[other][cell][f"test_{protocol}"] - base[f"test_{protocol}"])
                line.append(mean_text(gaps))
            lines.append(line)
        titles = (f"U, {words}", *("1 epoch" if count == 1 else f"{count} epochs" for count in epochs))
        parts.append(markdown(titles, lines))
    return "\n\n".join(parts)


def regularisations(rows: Sequence[Row]) -> list[str]:
    """Return the regularised variants of AR that were swept."""
    sweeps = ("weight_decay", "dropout", "attention_dropout", "token_masking")
    names = [row["factorization"] for row in rows if row["grid"] in sweeps]
    return [name for name in dict.fromkeys(names) if name.split()[0] == "ar"]


def settings_table(rows: Sequence[Row], base: str, names: Sequence[str]) -> str:
    """Return test NLL of families on the cells that all of them have, early stopping and final."""
    by_name = {name: {key(row): row for row in rows if row["factorization"] == name} for name in (base, *names)}
    cells = sorted(set.intersection(*(set(found) for found in by_name.values())), key=lambda k: (k[1], k[2]))
    lines = []
    for name, found in by_name.items():
        values = [f"{found[c]['test_best']:.3f} / {found[c]['test_final']:.3f}" for c in cells]
        gaps = [found[c]["test_best"] - by_name[base][c]["test_best"] for c in cells]
        lines.append([name, *values, "" if name == base else mean_text(gaps)])
    titles = [f"U = {rounded(unique):,}, {epochs} epochs" for _, unique, epochs, _ in cells]
    return markdown(("family, best / final", *titles, f"best, against {base}"), lines)


def orders_table(rows: Sequence[Row]) -> str:
    """Return test NLL over the number of orders, plain and with dropout."""
    orders = [name for name in dict.fromkeys(r["factorization"] for r in rows) if name.startswith("orders")]
    single = [name for name in orders if " " not in name]
    regularised = [name for name in orders if name.endswith("dropout=0.2")]
    masked = [name for name in ("masked dropout=0.2",) if any(r["factorization"] == name for r in rows)]
    plain = settings_table(rows, "ar", [*single, "masked"])
    return f"{plain}\n\n{settings_table(rows, 'ar dropout=0.2', [*regularised, *masked])}"


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


def key(row: Row) -> tuple[int, float, int, int]:
    """What two runs must share to be compared: width, unique tokens, epochs, seed."""
    return row["width"], row["unique_tokens"], row["epochs"], row["seed"]


def mean_text(values: Sequence[float]) -> str:
    """Return a mean with its standard error over runs."""
    if not values:
        return ""
    mean = f"{np.mean(values):+.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(documents: Sequence[str], tables: dict[str, str]) -> list[str]:
    """Put every table between its marks, in the document that has them.

    Raises:
        ValueError: no document has marks for one of them.
    """
    texts = list(documents)
    for name, table in tables.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        places = [i for i, text in enumerate(texts) if marks.search(text)]
        if not places:
            raise ValueError(f"no document has a place for {name!r}")
        for i in places:
            texts[i] = marks.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", texts[i])
    return texts


def save(name: str, svg: str) -> None:
    """Write a figure as a file of its own; an empty one is left out."""
    path = FOLDER / f"{name}.svg"
    path.unlink(missing_ok=True)
    if svg:
        path.write_text(svg.replace("currentColor", GREY) + "\n")


if __name__ == "__main__":
    main()
