"""``anyorder report``: one page that compares runs."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from anyorder.errors import ConfigError
from anyorder.files import writable
from anyorder.folders import owned
from anyorder.reports.page import page_files


@dataclass
class ReportConfig:
    """Settings; ``configs/report.yaml`` explains them."""

    runs: list[str] = field(default_factory=list)
    output: str = "outputs/report.html"
    title: str = "anyorder report"

    def __post_init__(self) -> None:
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
