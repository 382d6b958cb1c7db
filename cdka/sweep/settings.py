"""Checks of single run settings, so that a refusal can name the place where the setting was written."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError, unknown
from cdka.runs.spec import FIELD_NAMES, METHODS, RunSpec

COMPONENT_AXES = ("r1", "r2", "r")
_TYPES = {one.name: str(one.type) for one in fields(RunSpec)}
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
