"""Plain tables of titles and cells, for the terminal and in Markdown."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text


def rich_table(titles: Sequence[str], rows: Sequence[Sequence[str]], framed: bool = False) -> Table:
    """Return a table for the terminal.

    Args:
        titles: of the columns; a table of empty ones has no head.
        rows: the cells.
        framed: draw lines around all cells, and fold long ones instead of cutting them.
    """
    head = any(titles)
    table = Table(show_header=head) if framed else Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold" if framed and head else "ellipsis")
    for row in rows:
        # Text, as brackets in a name are no markup.
        table.add_row(*map(Text, row))
    return table


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    rule = "|" + "---|" * len(titles)
    return "\n".join([_markdown_row(titles), rule, *map(_markdown_row, rows)])


def _markdown_row(cells: Sequence[str]) -> str:
    # A bar ends a cell, even within code.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
