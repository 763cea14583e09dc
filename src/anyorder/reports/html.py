"""One self-contained HTML page about several runs, and its Markdown beside it."""

import base64
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from anyorder.errors import ConfigError, UserError
from anyorder.files import finite, write_whole
from anyorder.reports.contact_sheet import contact_sheet, read_strip
from anyorder.reports.findings import cautions, headline, likelihood_line
from anyorder.reports.page import page_files, render
from anyorder.reports.paired import PairedComparison, compare_pairs
from anyorder.reports.plots import nll_plot, success_plot, training_loss_plot, validation_loss_plot
from anyorder.reports.rollouts import Video
from anyorder.reports.runs import RunSummary, read_runs
from anyorder.reports.settings_diff import compare_settings
from anyorder.reports.style import looks
from anyorder.reports.table import COLUMNS, DATA_COLUMNS, VALIDATION_COLUMNS, Column, markdown_cell, rows, to_markdown

EMBED_BELOW_BYTES = 8_000_000
TITLE = "Which factorization wins?"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageVideo:
    """A film as the page shows it: ``source`` is a data URL or a path relative to the page."""

    run: str
    color: str
    caption: str
    source: str


def write_report(runs: Iterable[str | Path], out: str | Path, title: str = TITLE, baseline: str | None = None) -> Path:
    """Write the report of run folders to ``out`` and its Markdown beside it, under the same name with ``.md``.

    The page needs no other file, unless the films weigh more than 8 MB together: then it links to them where they
    are. Both files appear whole or not at all; an earlier report of that name is replaced.

    Args:
        runs: their folders.
        out: where the page goes.
        title: of the page.
        baseline: the folder of the run that the others are paired with; the one that succeeds most often where None.

    Returns:
        The path of the page.

    Raises:
        ConfigError: a folder is no run, ``out`` does not end in ``.html``, another Markdown file has the name, or
            ``baseline`` is none of the runs.
    """
    page, markdown = page_files(out, "output")
    summaries = read_runs(runs)
    paired = compare_pairs(summaries, baseline)
    text = markdown_page(summaries, title, paired)
    # It alone is what a kill leaves of this report, or somebody's.
    if markdown.exists() and not page.exists() and markdown.read_bytes() != text.encode():
        allowed = "a name whose .md is free, too: the page's Markdown stands beside it"
        raise ConfigError("output", str(markdown), allowed)
    write_whole(markdown, text)
    write_whole(page, html_page(summaries, title, page.resolve().parent, paired))
    return page


def html_page(runs: Sequence[RunSummary], title: str, folder: Path, paired: PairedComparison | None) -> str:
    """Return the page; links to films too heavy to embed are relative to ``folder``."""
    return render(
        "report.html.j2",
        title=title,
        headline=headline(runs),
        likelihood_line=likelihood_line(runs),
        cautions=cautions(runs),
        runs=runs,
        looks=looks(runs),
        tables={
            "comparison": _table(runs, COLUMNS),
            "validation": _table(runs, VALIDATION_COLUMNS),
            "data": _table(runs, DATA_COLUMNS),
            "paired": _table(paired.runs, paired.columns) if paired else None,
        },
        paired=paired,
        success_plot=Markup(success_plot(runs)),
        nll_plot=Markup(nll_plot(runs)),
        validation_loss_plot=Markup(validation_loss_plot(runs)),
        training_loss_plot=Markup(training_loss_plot(runs)),
        sheet=sheet_url(runs),
        videos=page_videos(runs, folder),
        settings=compare_settings(runs),
        numbers=numbers(runs),
    )


def markdown_page(runs: Sequence[RunSummary], title: str, paired: PairedComparison | None) -> str:
    """Return the report without pictures."""
    parts = [f"# {markdown_cell(title)}", f"**{markdown_cell(headline(runs))}**"]
    if line := likelihood_line(runs):
        parts.append(markdown_cell(line))
    if paired and paired.finding:
        parts.append(markdown_cell(paired.finding))
    parts.append(to_markdown(runs))
    parts.append("`=` exact NLL, `≤` upper bound, ± standard error; intervals are Wilson's at 95 %.")
    parts.append("Chunk error: on held-out episodes, in halves of an action's range in the training episodes.")
    if notes := cautions(runs):
        parts.append("\n".join(f"- {markdown_cell(note)}" for note in notes))
    if paired:
        parts += _paired_markdown(paired)
    parts += ["## Validation", to_markdown(runs, VALIDATION_COLUMNS), "## Data", to_markdown(runs, DATA_COLUMNS)]
    return "\n\n".join(parts) + "\n"


def _paired_markdown(paired: PairedComparison) -> list[str]:
    parts = [f"## Paired comparison with {markdown_cell(paired.baseline.label)}"]
    if paired.runs:
        parts.append(to_markdown(paired.runs, paired.columns))
    if paired.notes:
        parts.append("\n".join(f"- {markdown_cell(note)}" for note in paired.notes))
    return parts


def numbers(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Return everything known about the runs, JSON-ready, without the films; not-a-number becomes null."""
    return [finite({k: v for k, v in asdict(run).items() if k not in ("videos", "folder")}) for run in runs]


def sheet_url(runs: Sequence[RunSummary]) -> str:
    """Return a contact sheet of one film per run as a data URL; empty without films.

    Where the runs filmed the same episode, that one is shown: episodes of one number start alike.
    """
    filmed = [run for run in runs if run.videos]
    shared = set.intersection(*({v.episode for v in run.videos} for run in filmed)) if filmed else set()
    strips = []
    for run in filmed:
        video = next((v for v in run.videos if v.episode in shared), run.videos[0])
        try:
            strips.append(read_strip(video.path, f"{run.label}  ·  {video.caption}"))
        except UserError as error:
            _log.warning("left out of the contact sheet: %s", error)
    return data_url("image/png", contact_sheet(strips)) if strips else ""


def page_videos(runs: Sequence[RunSummary], folder: Path) -> list[PageVideo]:
    """Return all films, embedded if they are light together, else linked from ``folder``."""
    style = looks(runs)
    total = sum(video.path.stat().st_size for run in runs for video in run.videos)

    def source(video: Video) -> str:
        if total < EMBED_BELOW_BYTES:
            return data_url("video/mp4", video.path.read_bytes())
        return quote(Path(os.path.relpath(video.path, folder)).as_posix())

    return [
        PageVideo(run.label, style[run.name].color, video.caption, source(video))
        for run in runs
        for video in run.videos
    ]


def data_url(kind: str, content: bytes) -> str:
    """Return bytes as a URL that holds them.

    >>> data_url("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _table(runs: Sequence[RunSummary], columns: Sequence[Column]) -> dict[str, Any]:
    return {"columns": columns, "rows": list(zip(runs, rows(runs, columns), strict=True))}
