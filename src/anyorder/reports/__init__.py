"""Reports of runs: tables, plots, contact sheets and one self-contained HTML page."""

from anyorder.reports.contact_sheet import contact_sheet, read_strip
from anyorder.reports.html import write_report
from anyorder.reports.runs import RunSummary, read_run, read_runs
from anyorder.reports.table import to_markdown, to_rich

__all__ = [
    "RunSummary",
    "contact_sheet",
    "read_run",
    "read_runs",
    "read_strip",
    "to_markdown",
    "to_rich",
    "write_report",
]
