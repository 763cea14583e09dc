"""A progress bar for work that reports (finished, wanted)."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextlib.contextmanager
def counting(description: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; it gives the function that moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(description, total=None)
        yield lambda finished, wanted: bar.update(task, completed=finished, total=wanted)
