"""Columns of raw values and the line of each row: the answer of every format's reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Records:
    """Rows of one file as its reader found them, before missing values are marked."""

    columns: Mapping[str, list[Any]]
    lines: list[int]
    notes: tuple[str, ...] = ()
    splits: Sequence[str] | None = None


def from_objects(
    objects: Iterable[Mapping[str, Any]],
    lines: Iterable[int],
    notes: tuple[str, ...] = (),
    splits: Sequence[str] | None = None,
) -> Records:
    """Columns made of one mapping a row; a key that a row lacks is None there."""
    listed = list(objects)
    names = dict.fromkeys(name for row in listed for name in row)
    return Records({name: [row.get(name) for row in listed] for name in names}, list(lines), notes, splits)
