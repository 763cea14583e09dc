"""A progress bar for work that reports (finished, wanted)."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn

from anyorder.bars import progress_bars


@contextlib.contextmanager
def counting(description: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; it gives the function that moves it."""
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with progress_bars(*columns, console=console) as bar:
        task = bar.add_task(description, total=None)
        yield lambda finished, wanted: bar.update(task, completed=finished, total=wanted)
