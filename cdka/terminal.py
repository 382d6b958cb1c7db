"""Output of the commands: JSON or aligned tables on stdout; progress and messages on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: a missing number is null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "item"):  # NumPy scalars
        return _plain(value.item())
    return value


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(_plain(document), indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """An aligned table on stdout: numbers to the right, text to the left."""
    body = [["" if cell is None else str(cell) for cell in row] for row in rows]
    numeric = [
        bool(body)
        and all(
            row[i].lstrip("-+~").replace(",", "").replace(".", "", 1).rstrip("%").isdigit() or not row[i]
            for row in body
        )
        for i in range(len(header))
    ]
    widths = [max(len(line[i]) for line in [list(header), *body]) for i in range(len(header))]
    for line in [list(header), *body]:
        cells = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
        print("  ".join(cells).rstrip())


def print_message(message: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(message, file=sys.stderr, flush=True)
