"""Read a task's options: values given as text on the command line, or as data in Python. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cdka.errors import CdkaError, unknown

CONSENT = "allow_code_execution"
"""The option by which the user allows that code runs on this machine: a model's, or the user's own metric."""
COPIES = ("metamath", "gsm8k", "codefeedback", "humaneval", "mbpp", "mirror")
"""The options that name a local copy of a public data set."""
_YES, _NO = ("yes", "true", "1", "on"), ("no", "false", "0", "off")


def check_known(options: Mapping[str, Any], known: Iterable[str], task: str) -> None:
    """Raises CdkaError for an option that the task does not have, with the nearest spellings."""
    known = tuple(known)
    if options and not known:
        raise CdkaError(f"task {task!r} takes no options: got {', '.join(options)}. Leave --task-option out.")
    for name in options:
        if name not in known:
            raise unknown("task option", name, known, where=f"for {task!r}")


def whole_number(options: Mapping[str, Any], name: str, default: int | None, *, least: int = 1) -> int | None:
    """The option as an integer of at least ``least``; ``default`` where it is not given."""
    value = options.get(name, default)
    if value is None or value is default:
        return default
    try:
        number = int(str(value).replace("_", ""))
    except ValueError:
        number = least - 1
    if number < least:
        raise CdkaError(f"task option {name} must be a whole number of at least {least}: got {value!r}.")
    return number


def fraction(options: Mapping[str, Any], name: str, default: float) -> float:
    """The option as a share, at least 0 and below 1."""
    value = options.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number < 1.0:
        raise CdkaError(f"task option {name} must be at least 0 and below 1: got {value!r}.")
    return number


def switch(options: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """The option as yes or no."""
    value = options.get(name, default)
    if isinstance(value, bool):
        return value
    folded = str(value).strip().casefold()
    if folded not in (*_YES, *_NO):
        raise CdkaError(f"task option {name} must be yes or no: got {value!r}.")
    return folded in _YES


def choice(options: Mapping[str, Any], name: str, choices: Iterable[str], default: str) -> str:
    """The option as one of ``choices``."""
    value = str(options.get(name, default))
    choices = tuple(choices)
    if value not in choices:
        raise CdkaError(f"task option {name} must be one of {', '.join(choices)}: got {value!r}.")
    return value
