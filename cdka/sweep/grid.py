"""Grids: the text ``"r1=1,2,4;r2=4;r=1"`` or a mapping, turned into cells of run settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError, unknown
from cdka.runs.spec import FIELD_NAMES, METHODS, RunSpec

COMPONENT_AXES = ("r1", "r2", "r")
_TYPES = {one.name: str(one.type) for one in fields(RunSpec)}
_ASKS = {one.name: one.metadata["asks"] for one in fields(RunSpec) if "asks" in one.metadata}
INTEGERS = (
    *COMPONENT_AXES,
    *(name for name, kind in _TYPES.items() if kind in ("int", "int | None") and name != "seed"),
)
NUMBERS = tuple(name for name, kind in _TYPES.items() if kind.startswith("float"))
WORDS = tuple(name for name, kind in _TYPES.items() if kind.startswith("str"))
SETTINGS = tuple(dict.fromkeys((*COMPONENT_AXES, *(name for name in FIELD_NAMES if name != "seed"))))
"""Every setting of an arm; seeds are given apart."""
_BELONG_TO_A_METHOD = ("method", "components", "rank")


def typed(name: str, value: Any, what: str = "setting", next_step: str = "") -> Any:
    """``value`` in the type that the setting has. Raises CdkaError for an unknown setting, a wrong type or range."""
    if name == "seed":
        raise CdkaError("seeds belong to the plan, not to a setting: got 'seed'. Write seeds = 3 or seeds = [0, 1, 2].")
    if name not in SETTINGS:
        raise unknown(what, name, SETTINGS, next_step=next_step)
    if value in _ASKS.get(name, ()):
        return value
    kind = int if name in INTEGERS else float if name in NUMBERS else str if name in WORDS else None
    if kind is not None and not (name == "target_modules" and isinstance(value, list | tuple)):
        value = _as(kind, name, value, what, next_step)
    if name in COMPONENT_AXES:
        Components(**{**dict.fromkeys(COMPONENT_AXES, 1), name: value})
    elif name == "method" and value not in METHODS:
        raise unknown("method", value, METHODS)
    elif name == "components":
        Components.parse(value)
    elif name == "rank":
        RunSpec("", "", method="lora", rank=value)
    elif name in ("component_pattern", "task_options") and not isinstance(value, dict):
        raise CdkaError(f"{name} must be a table: got {value!r}.")
    elif _TYPES.get(name) == "bool" and not isinstance(value, bool):
        raise CdkaError(f"{name} must be true or false: got {value!r}.")
    elif name not in (*_BELONG_TO_A_METHOD, "model", "task"):
        RunSpec("", "", **{name: value})
    return value


def _as(kind: type, name: str, value: Any, what: str, next_step: str) -> Any:
    try:
        found = None if isinstance(value, bool | list | dict) or value is None else kind(value)
    except (TypeError, ValueError, OverflowError):
        found = None
    wrong = found is None or (kind is int and isinstance(value, float)) or (kind is str and not isinstance(value, str))
    if wrong:
        word = {int: "integers", float: "numbers", str: "words"}[kind]
        raise CdkaError(" ".join(filter(None, (f"{what} {name!r} takes {word}: got {value!r}.", next_step))))
    return found


_NO_AXIS = ("components", "component_pattern", "task_options", "device", "engine", "gradient_checkpointing")
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
