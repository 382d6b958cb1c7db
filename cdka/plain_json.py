"""JSON as the store, the exports and the commands write it: without NaN and infinities."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """``value`` as plain data: every NaN and infinity becomes None, for JSON has neither, and missing is not zero."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):  # NumPy scalars
        return finite(value.item())
    if hasattr(value, "isoformat"):  # dates and times, of pandas too
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def dump(value: Any) -> str:
    """Compact JSON."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return json.dumps(finite(value), separators=(",", ":"), ensure_ascii=False)
