"""Progress bars that give way to the numbers beside them: every verb's fit 80 columns."""

from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

LEAST_BAR = 4


def progress_bars(
    *columns: ProgressColumn, description: str = "{task.description}", **settings: Any
) -> Progress:
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
