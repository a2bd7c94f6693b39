"""Markdown tables."""

from collections.abc import Iterable


def row(cells: Iterable[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def head(columns: Iterable[str]) -> list[str]:
    """The names of the columns, and the line below them."""
    columns = list(columns)
    return [row(columns), row(["---"] * len(columns))]
