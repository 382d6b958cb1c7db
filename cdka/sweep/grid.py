"""Grids: the text ``"r1=1,2,4;r2=4;r=1"`` or a mapping, turned into cells of run settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from cdka.errors import CdkaError, unknown

_INTEGERS = ("r1", "r2", "r", "rank", "steps", "batch_size", "eval_every")
_NUMBERS = ("lr", "alpha", "weight_decay", "warmup_ratio", "max_grad_norm")
_WORDS = ("method", "model", "task", "init_weights", "scaling_rule", "schedule", "target_modules", "dtype")
AXES = _INTEGERS + _NUMBERS + _WORDS
"""The settings that a grid may vary; seeds are given apart."""

EXAMPLE = 'Example: "r1=1,2,4;r2=4;r=1".'


def parse_grid(text: str) -> dict[str, list[Any]]:
    """Values by axis, in the order written. Raises CdkaError naming the axis and the value that is off."""
    grid: dict[str, list[Any]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        axis, equals, values = part.partition("=")
        axis = axis.strip()
        if not equals or not values.strip():
            raise CdkaError(f"a grid is axis=value,value;...: got {part!r}. {EXAMPLE}")
        if axis in grid:
            raise CdkaError(f"a grid names each axis once: got {axis!r} twice. {EXAMPLE}")
        grid[axis] = [value.strip() for value in values.split(",") if value.strip()]
    return check_grid(grid)


def check_grid(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The grid with every value in its axis's type. Raises CdkaError for an empty grid, axis or wrong value."""
    if not grid:
        raise CdkaError(f"a grid needs at least one axis with values: got an empty one. {EXAMPLE}")
    checked = {}
    for axis, values in grid.items():
        if axis not in AXES:
            raise unknown("grid axis", axis, AXES, next_step=EXAMPLE)
        values = values if isinstance(values, list | tuple) else [values]
        if not values:
            raise CdkaError(f"grid axis {axis!r} needs at least one value. {EXAMPLE}")
        checked[axis] = [_typed(axis, value) for value in values]
    return checked


def _typed(axis: str, value: Any) -> Any:
    kind = int if axis in _INTEGERS else float if axis in _NUMBERS else str
    try:
        number = kind(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or (kind is int and isinstance(value, float) and value != number):
        word = {int: "integers", float: "numbers", str: "words"}[kind]
        raise CdkaError(f"grid axis {axis!r} takes {word}: got {value!r}. {EXAMPLE}")
    return number


def cells(grid: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Every combination of a checked grid's values, the last axis varying fastest, duplicates kept."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
