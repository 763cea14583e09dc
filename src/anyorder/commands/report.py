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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise ConfigError("runs", self.runs, "run folders, as [outputs/a,outputs/b]")
        page, _ = page_files(self.output, "output")
        if page.exists():
            raise ConfigError("output", self.output, "a new file")
        if not writable(Path(self.output)):
            raise ConfigError("output", self.output, "a file in a place that can be written to")


def run(config: ReportConfig, console: Console) -> None:
    """Write the page and print its table."""
    from anyorder.reports.html import write_report
    from anyorder.reports.runs import read_runs
    from anyorder.reports.table import to_rich

    folders = [Path(folder) for folder in config.runs]
    page, markdown = page_files(config.output, "output")
    with owned(page, "output", new="a new file"), owned(markdown, "output"):
        written = write_report(folders, page, title=config.title)
        console.print(to_rich(read_runs(folders)))
        console.print(f"report: {written}")
