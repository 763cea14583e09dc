"""Progress bars that give way to the numbers beside them, so that every verb's fit 80 columns; times in words."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

LEAST_BAR = 4
"""A bar keeps at least this many columns."""


def progress_bars(*columns: ProgressColumn, description: str = "{task.description}", **settings: Any) -> Progress:
    """Make a display of a description, a bar as wide as there is room for, and ``columns``.

    Args:
        columns: after the bar; each as wide as what it shows.
        description: format of the first column.
        settings: of ``rich.progress.Progress``.
    """
    bar = BarColumn(None, table_column=Column(ratio=1, min_width=LEAST_BAR))
    for column in columns:
        column._table_column = Column(no_wrap=True)
    return Progress(TextColumn(description), bar, *columns, expand=True, **settings)


@contextlib.contextmanager
def counting(description: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; it gives the function of (finished, wanted) that moves it."""
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with progress_bars(*columns, console=console) as bar:
        task = bar.add_task(description, total=None)
        yield lambda finished, wanted: bar.update(task, completed=finished, total=wanted)


@contextlib.contextmanager
def shown_together(console: Console, *bars: Progress) -> Iterator[None]:
    """Show several displays, one below another, while the block runs; what is printed next begins a line of its own."""
    try:
        with Live(Group(*bars), console=console, refresh_per_second=4):
            yield
    finally:
        if not console.is_terminal:
            console.line()  # in a file or a pipe rich leaves the last line open


def duration(seconds: float) -> str:
    """Return seconds in words.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
