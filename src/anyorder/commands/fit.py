"""``anyorder fit``: scaling laws of a table of runs, with intervals and critical compute."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from anyorder.errors import MAX_COUNT, ConfigError
from anyorder.files import writable, write_whole
from anyorder.folders import whole_folder
from anyorder.laws.config import FitConfig
from anyorder.laws.facts import PROTOCOLS, protocol_of
from anyorder.laws.law import AUTO, LAWS
from anyorder.reports.text_tables import rich_table
from anyorder.settings import Settings, setting

if TYPE_CHECKING:
    from anyorder.laws.laws import FittedLaws
    from anyorder.laws.runs import Runs

REPORT = "report.html"


@dataclass
class FitCommandConfig(FitConfig):
    """Settings of ``anyorder fit``."""

    law: str = setting(
        "data_constrained", "chinchilla, data_decay, data_constrained, overfitting or auto (chosen by held-out runs)."
    )
    runs: str = setting(
        meaning="CSV or parquet: params, tokens, unique_tokens, loss and, for several families, factorization."
    )
    loss: str = setting("loss", "Which column the loss is in, as loss_final or loss_best of a study.")
    protocol: str | None = setting(
        None,
        "final (scored at the end of a run) or best (early stopping); told by the column's name when null.",
        among=PROTOCOLS,
    )
    out: str = setting("outputs/fit", "New folder for laws.json and report.html.")
    families: list[str] = setting([], "Fit these alone; all when empty.")
    bootstrap: int = setting(400, "Resamples of the runs.", least=100, most=1_000_000)
    seed: int = setting(0, "Seed of the resamples and folds.", least=0, most=MAX_COUNT)

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        told = protocol_of(self.loss)
        if self.protocol is not None and told not in (None, self.protocol):
            raise ConfigError("protocol", self.protocol, f"{told}, as loss={self.loss} tells")
        if Path(self.out).exists() or not writable(Path(self.out)):
            raise ConfigError("out", self.out, "a new folder, where one can be made")
        self.fit_config()

    def fit_config(self) -> FitConfig:
        """Return how to fit; under ``law=auto`` fixed constants must be ones that every law has."""
        law = next(iter(LAWS)) if self.law == AUTO else self.law
        return FitConfig(law, self.fixed, self.tied, self.shared_e, self.two_step)


def run(config: FitCommandConfig, console: Console) -> None:
    """Fit, print the constants, write ``laws.json`` and ``report.html``."""
    from anyorder.reports.laws import constant_table, notes, pair_text, quality_table

    laws, runs, others = fit_table(config, console)
    if others:
        console.print(f"columns not used: {', '.join(others)}", markup=False)
    if runs.repeated:
        console.print(f"runs that equal an earlier one: {runs.repeated}, each counts", highlight=False)
    if config.law == AUTO:
        console.print(f"held-out runs choose law={laws.config.law}", markup=False, highlight=False)
    for table in (constant_table(laws), quality_table(laws)):
        console.print(rich_table(table))
    if laws.facts.protocol is not None:
        console.print(f"the losses ({config.loss}) are {PROTOCOLS[laws.facts.protocol]}", markup=False)
    for line in [*notes(laws, runs), *map(pair_text, laws.pairs)]:
        console.print(line, markup=False)
    print_files(config, console)


def fit_table(config: FitCommandConfig, console: Console) -> tuple["FittedLaws", "Runs", list[str]]:
    """Fit and write ``laws.json`` and ``report.html``; returns laws, runs, and the table's columns not used."""
    from anyorder.laws.facts import facts_of
    from anyorder.laws.laws import fit_laws
    from anyorder.laws.laws_file import LAWS_FILE, write_laws
    from anyorder.laws.runs import of_families, read_table, runs_of
    from anyorder.reports.laws import fitted_line, sentences
    from anyorder.reports.scaling import scaling_page

    table = of_families(read_table(config.runs), config.families)
    runs, others = runs_of(table, config.loss)
    facts = facts_of(table, runs, config.loss, config.protocol)
    with whole_folder(Path(config.out), "out") as folder:
        with console.status("fitting"):
            laws = fit_laws(runs, config.fit_config(), config.bootstrap, config.seed, config.law == AUTO, facts)
        write_whole(folder / REPORT, scaling_page(laws, runs, fitted_line(laws, runs, Path(config.runs))))
        write_laws(laws, sentences(laws), folder / LAWS_FILE)
    return laws, runs, others


def print_files(config: FitCommandConfig, console: Console) -> None:
    """Say what was written."""
    from anyorder.laws.laws_file import LAWS_FILE

    folder = Path(config.out)
    console.print(f"laws: {folder / LAWS_FILE}\nreport: {folder / REPORT}", markup=False)
