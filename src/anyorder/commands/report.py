"""``anyorder report``: one page that compares runs."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from anyorder.errors import ConfigError
from anyorder.files import writable
from anyorder.folders import owned
from anyorder.reports.page import page_files
from anyorder.settings import Settings, setting


@dataclass
class ReportConfig(Settings):
    """Settings of ``anyorder report``."""

    runs: list[str] = setting([], "Run folders made by `anyorder train` (and `anyorder rollout`).")
    output: str = setting("outputs/report.html", "New file; report.md is written beside it.")
    title: str = setting("anyorder report", "Title of the page.")
    baseline: str | None = setting(
        None, "The one of `runs` that the others are paired with; the one that succeeds most often when null."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise ConfigError("runs", self.runs, "run folders, as [outputs/a,outputs/b]")
        if self.baseline is not None and Path(self.baseline).resolve() not in (Path(r).resolve() for r in self.runs):
            raise ConfigError("baseline", self.baseline, "one of runs")
        page, _ = page_files(self.output, "output")
        if page.exists():
            raise ConfigError("output", self.output, "a new file")
        if not writable(Path(self.output)):
            raise ConfigError("output", self.output, "a file in a place that can be written to")


def run(config: ReportConfig, console: Console) -> None:
    """Write the page and print its tables."""
    from anyorder.reports.html import write_report
    from anyorder.reports.paired import compare_pairs
    from anyorder.reports.runs import read_runs
    from anyorder.reports.table import to_rich

    folders = [Path(folder) for folder in config.runs]
    page, markdown = page_files(config.output, "output")
    with owned(page, "output", new="a new file"), owned(markdown, "output"):
        written = write_report(folders, page, title=config.title, baseline=config.baseline)
        summaries = read_runs(folders)
        console.print(to_rich(summaries))
        if paired := compare_pairs(summaries, config.baseline):
            # Highlighting is off, as it would color the numbers of a sentence.
            console.print(f"\npaired with {paired.baseline.label}", markup=False, highlight=False)
            if paired.runs:
                console.print(to_rich(paired.runs, paired.columns))
            for line in filter(None, (paired.finding, *paired.notes)):
                console.print(line, markup=False, highlight=False)
        console.print(f"report: {written}")
