"""Output of the commands: JSON or aligned tables on stdout; progress and messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cdka.plain_json import finite

_MIN_NAME_CHARS = 28
"""Names in the first column of a table are kept whole up to this length."""


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    text = json.dumps(finite(document), indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal that cannot show them, or halves of characters
        text = json.dumps(finite(document), indent=2)
    print(text)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """An aligned table on stdout: numbers to the right, text to the left; plain lines where it is piped."""
    body = _cells(rows)
    if sys.stdout.isatty():
        return _draw_table(header, body, numeric_columns(header, body))
    for line in _lines(header, body):
        print(line)
    return None


def table_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same table as plain text.

    >>> print(table_text(["name", "r"], [["a", 2], ["long", 16]]))
    name   r
    a      2
    long  16
    """
    return "\n".join(_lines(header, _cells(rows)))


def _cells(rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    return [["" if cell is None else str(cell) for cell in row] for row in rows]


def numeric_columns(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[bool]:
    """For each column, True where all its cells are numbers or empty."""
    return [
        bool(body)
        and all(
            row[i].lstrip("-+~").replace(",", "").replace(".", "", 1).rstrip("%").isdecimal() or not row[i]
            for row in body
        )
        for i in range(len(header))
    ]


def _lines(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    numeric = numeric_columns(header, body)
    widths = [max(len(line[i]) for line in [list(header), *body]) for i in range(len(header))]
    return [
        "  ".join(
            c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(header), *body]
    ]


def _draw_table(header: Sequence[str], body: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    """The table as wide as the terminal: long text wraps within its column."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, (title, right) in enumerate(zip(header, numeric, strict=True)):
        longest = max(len(row[i]) for row in body) if body else 0
        whole = longest if right else min(longest, _MIN_NAME_CHARS) if i == 0 else 1
        table.add_column(Text(title), justify="right" if right else "left", min_width=whole, overflow="fold")
    for row in body:
        table.add_row(*map(Text, row))
    Console().print(table)


def print_message(message: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(message, file=sys.stderr, flush=True)
