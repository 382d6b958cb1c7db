"""Grids: the text ``"r1=1,2,4;r2=4;r=1"`` or a mapping, turned into cells of run settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from cdka.errors import CdkaError, unknown
from cdka.sweep.settings import SETTINGS, typed

_NO_AXIS = ("components", "component_pattern", "task_options", "device", "gradient_checkpointing")
AXES = tuple(name for name in SETTINGS if name not in _NO_AXIS)
"""The settings that a grid may vary; seeds are given apart."""

EXAMPLE = 'Example: "r1=1,2,4;r2=4;r=1".'


def parse_grid(text: str) -> dict[str, list[Any]]:
    """Values by axis, in the order written. Raises CdkaError naming the axis and the value that is off."""
    grid: dict[str, list[Any]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        axis, equals, values = part.partition("=")
        axis = axis.strip()
        if not equals or not values.strip(" ,"):
            raise CdkaError(f"a grid is axis=value,value;...: got {part!r}. {EXAMPLE}")
        if axis in grid:
            raise CdkaError(f"a grid names each axis once: got {axis!r} twice. {EXAMPLE}")
        grid[axis] = [value.strip() for value in values.split(",") if value.strip()]
    return check_grid(grid)


def check_grid(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The grid with every value in its axis's type. Raises CdkaError for an empty grid, axis or wrong value."""
    if not grid:
        raise CdkaError(f"a grid needs at least one axis with values: got an empty one. {EXAMPLE}")
    return {axis: check_axis(axis, values) for axis, values in grid.items()}


def check_axis(axis: str, values: Any) -> list[Any]:
    """The values of one axis in its type; a single value is a list of one."""
    if axis not in AXES:
        raise unknown("grid axis", axis, AXES, next_step=EXAMPLE)
    values = values if isinstance(values, list | tuple) else [values]
    if not values:
        raise CdkaError(f"grid axis {axis!r} needs at least one value. {EXAMPLE}")
    return [typed(axis, value, "grid axis", EXAMPLE) for value in values]


def cells(grid: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Every combination of a checked grid's values, the last axis varying fastest, duplicates kept."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
