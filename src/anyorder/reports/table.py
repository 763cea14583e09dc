"""Tables of runs: columns are defined once and shown in the terminal, in Markdown and in HTML."""

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from textwrap import wrap

from rich import box
from rich.table import Table
from rich.text import Text

from anyorder.reports.runs import RunSummary, Score

NONE = "-"


@dataclass(frozen=True)
class Column:
    """One column: its ``title`` with the unit, the ``cell`` of a run, and whether it is a number."""

    title: str
    cell: Callable[[RunSummary], str]
    number: bool = True


def with_error(value: float, error: float | None) -> str:
    """Write a value to the second significant digit of its standard error.

    >>> with_error(4.20539, 0.1471), with_error(0.50749, 0.01775), with_error(1.23456, None)
    ('4.21 ± 0.15', '0.507 ± 0.018', '1.235')
    """
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.3f}"
    digits = min(6, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def nll(exact: bool | None, value: float | None, error: float | None) -> str:
    """Write an NLL as what it is: ``=`` the likelihood, ``≤`` a bound on it, ``-`` none.

    >>> nll(True, 1.234, 0.021), nll(False, 1.3, 0.02), nll(None, None, None)
    ('= 1.234 ± 0.021', '≤ 1.300 ± 0.020', '-')
    """
    if value is None or exact is None:
        return NONE
    return f"{'=' if exact else '≤'} {with_error(value, error)}"


def percent(rate: float) -> str:
    """Write a share in percent.

    >>> percent(0.025), percent(0.943)
    ('2', '94')
    """
    return f"{100 * rate:.0f}"


def count(value: int | None) -> str:
    """Write a whole number with thousands apart.

    >>> count(350592), count(None)
    ('350,592', '-')
    """
    return NONE if value is None else f"{value:,}"


def success(run: RunSummary) -> str:
    """Write ``18/20 = 90 % [70, 97]``, the interval being Wilson's; ``*`` marks a count from the training loop."""
    rollouts = run.rollouts
    if rollouts is None:
        return NONE
    low, high = map(percent, rollouts.interval)
    mark = "*" if rollouts.during_training else ""
    return f"{rollouts.successes}/{rollouts.episodes} = {percent(rollouts.rate)} % [{low}, {high}]{mark}"


def _nll(run: RunSummary, score: Score | None, unit: str) -> str:
    numbers = attrgetter(f"nll_nats_per_{unit}", f"standard_error_nats_per_{unit}")
    return NONE if score is None else nll(run.exact, *numbers(score))


def _chunk_error(run: RunSummary) -> str:
    return NONE if run.chunk_error is None else with_error(run.chunk_error, run.chunk_error_standard_error)


def _step(score: Score | None) -> str:
    return NONE if score is None else count(score.step)


def _loss(score: Score | None) -> str:
    return NONE if score is None else f"{score.loss:.4g}"


def _latency(run: RunSummary) -> str:
    if run.rollouts is None or run.rollouts.chunk_latency_ms is None:
        return NONE
    latency_ms, batch = run.rollouts.chunk_latency_ms, run.rollouts.latency_batch
    digits = 1 if latency_ms < 100 else 0
    return f"{latency_ms:,.{digits}f}" + (f" (batch {batch})" if batch else "")


def _calls(run: RunSummary) -> str:
    if run.rollouts is None or run.rollouts.calls_per_chunk is None:
        return NONE
    return f"{run.rollouts.calls_per_chunk:.1f}".removesuffix(".0")


POLICY = Column("policy", lambda run: run.label, number=False)

COLUMNS = (
    POLICY,
    Column("params", lambda run: count(run.params)),
    Column("NLL, nats/token", lambda run: _nll(run, run.final, "token")),
    Column("NLL, nats/action value", lambda run: _nll(run, run.final, "value")),
    Column("chunk error", _chunk_error),
    Column("success [95 % interval]", success),
    Column("chunk latency, ms", _latency),
    Column("calls/chunk", _calls),
)
"""These columns compare policies; NLL and chunk error are those at the end, on held-out episodes."""

VALIDATION_COLUMNS = (
    POLICY,
    Column("final: step", lambda run: _step(run.final)),
    Column("NLL, nats/chunk", lambda run: _nll(run, run.final, "chunk")),
    Column("NLL, nats/action value", lambda run: _nll(run, run.final, "value")),
    Column("loss", lambda run: _loss(run.final)),
    Column("best along the way: step", lambda run: _step(run.best)),
    Column("best NLL, nats/action value", lambda run: _nll(run, run.best, "value")),
    Column("best loss", lambda run: _loss(run.best)),
)
"""These columns show the last validation and, beside it, the best one along the way."""

DATA_COLUMNS = (
    POLICY,
    Column("demos", lambda run: count(run.train_episodes)),
    Column("minutes", lambda run: NONE if run.train_minutes is None else f"{run.train_minutes:.1f}"),
    Column("frames", lambda run: count(run.train_frames)),
    Column("action tokens", lambda run: count(run.train_tokens)),
    Column("held-out demos", lambda run: count(run.validation_episodes)),
)
"""These columns say what each run learnt from."""


def rows(runs: Sequence[RunSummary], columns: Sequence[Column] = COLUMNS) -> list[list[str]]:
    """Return the cells, one row per run; line breaks, which a folder's name may hold, become spaces."""
    return [[" ".join(column.cell(run).split()) for column in columns] for run in runs]


def to_rich(runs: Sequence[RunSummary], columns: Sequence[Column] = COLUMNS) -> Table:
    """Return the table for ``rich.print``; what is in brackets and errors stand below, to fit 80 characters."""
    cells = rows(runs, columns)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        # Numbers keep the width they need, title included; names are folded where the terminal is too narrow.
        words = column.title.replace("/", " /").split()
        width = max(map(len, [*words, *(line for row in cells for line in _lines(row[index]))]))
        table.add_column(
            "\n".join(wrap(" ".join(words), width)),
            justify="right" if column.number else "left",
            no_wrap=column.number,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*map(_stacked, row))
    return table


def _lines(cell: str) -> list[str]:
    return re.split(r" (?=[\[±(])", cell, maxsplit=1)


def _stacked(cell: str) -> Text:
    """Put the uncertainty, or what is in brackets, on a line of its own; Text, as those in a name are no markup."""
    value, *more = _lines(cell)
    return Text(value).append("".join(f"\n{line}" for line in more), style="dim")


def to_markdown(runs: Sequence[RunSummary], columns: Sequence[Column] = COLUMNS) -> str:
    """Return the table in Markdown."""
    lines = [
        [column.title for column in columns],
        ["---:" if column.number else "---" for column in columns],
        *rows(runs, columns),
    ]
    return "\n".join(f"| {' | '.join(map(markdown_cell, line))} |" for line in lines)


def markdown_cell(cell: str) -> str:
    """Escape what Markdown would read as a column's end or as HTML.

    >>> markdown_cell("a|b <c>")
    'a\\\\|b &lt;c&gt;'
    """
    return html.escape(cell, quote=False).replace("|", "\\|")
