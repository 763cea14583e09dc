"""Plain tables of titles and cells, for the terminal and in Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

import rich.table
from rich import box
from rich.text import Text


class Table(NamedTuple):
    """The titles of columns, empty ones for a table without a head, and the cells of each row."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


def rich_table(content: Table, framed: bool = False) -> rich.table.Table:
    """Return a table for the terminal; ``framed`` draws lines around all cells and folds long ones, not cuts them."""
    head = any(content.titles)
    plain = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
    table = rich.table.Table(**({"show_header": head} if framed else plain))
    for title in content.titles:
        table.add_column(title, overflow="fold" if framed and head else "ellipsis")
    for row in content.rows:
        # Text, as brackets in a name are no markup.
        table.add_row(*map(Text, row))
    return table


def markdown_table(content: Table) -> str:
    """Return a table in Markdown.

    >>> print(markdown_table(Table(["a", "b"], [["1", "2"]])))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    rule = "|" + "---|" * len(content.titles)
    return "\n".join([_markdown_row(content.titles), rule, *map(_markdown_row, content.rows)])


def _markdown_row(cells: Sequence[str]) -> str:
    # A bar ends a cell, even within code.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
