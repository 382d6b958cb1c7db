"""Plain data only: what may stand in the JSON of a bundle that anybody may have written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

LARGEST = 2**53
"""Beyond it a number is not the same in every reader of JSON."""
MAX_TEXT = 100_000
MAX_DEPTH = 32
_SCALARS = (int, float, bool, str, type(None))
_METRIC = re.compile(r"[A-Za-z][\w./ -]{0,99}")
_PATTERN = re.compile(r"[\w.*+?^$|()\[\]\\-]{1,200}")
_MAX_REPEATS = 3
_NUMBERS = ("accuracy", "loss", "step", "examples", "_s")
_UNREADABLE = re.compile("[\ud800-\udfff]")


def check_plain(value: Any, fail: Callable[[str, str], Exception], path: str = "", depth: int = 0) -> None:
    """Raises ``fail(path, rule)`` at the first value that is not finite, bounded, readable data."""
    if isinstance(value, dict):
        if depth == MAX_DEPTH:
            raise fail(path, f"is nested more than {MAX_DEPTH} deep")
        for key, item in value.items():
            _check_scalar(key, fail, f"{path} (a name in it)".strip())
            check_plain(item, fail, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        if depth == MAX_DEPTH:
            raise fail(path, f"is nested more than {MAX_DEPTH} deep")
        for i, item in enumerate(value):
            if isinstance(item, _SCALARS):
                if item.__class__ is not int or not -LARGEST < item < LARGEST:
                    _check_scalar(item, fail, f"{path}[{i}]")
            else:
                check_plain(item, fail, f"{path}[{i}]", depth + 1)
    else:
        _check_scalar(value, fail, path)


def _check_scalar(value: Any, fail: Callable[[str, str], Exception], path: str) -> None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise fail(path, f"holds {len(value):,} characters, at most {MAX_TEXT:,} are read")
        if _UNREADABLE.search(value):
            raise fail(path, "is not readable text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise fail(path, "must be a finite number")
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise fail(path, "is a number too large to be exact")


def check_metrics(metrics: dict[str, Any], fail: Callable[[str, str], Exception], path: str) -> None:
    """Raises ``fail`` for a metric without a plain name, and for an accuracy or a loss that is no number."""
    for name, value in metrics.items():
        if not _METRIC.fullmatch(name):
            raise fail(f"{path}.{name[:60]}", "is no plain name of a metric")
        if not isinstance(value, int | float | bool | str | None):
            raise fail(f"{path}.{name}", "must be a number or text")
        numeric = "/" in name or name.endswith(_NUMBERS) or name in ("steps_done", "unparsed")
        if numeric and (isinstance(value, bool | str)):
            raise fail(f"{path}.{name}", f"must be a number, got {type(value).__name__}")


def check_patterns(config: dict[str, Any], fail: Callable[[str, str], Exception]) -> None:
    """Raises ``fail`` where a pattern of layer names could keep a reader's regular expressions busy for hours."""
    for name in ("alpha_pattern", "rank_pattern", "component_pattern"):
        found = config.get(name) or {}
        if not isinstance(found, dict):
            raise fail(name, "must be an object")
        for key in found:
            endless = re.search(r"\)[*+]", key) or len(re.findall(r"[*+]", key)) > _MAX_REPEATS
            if endless or not _PATTERN.fullmatch(key):
                raise fail(f"{name}.{key[:60]}", "is no plain pattern of layer names")
