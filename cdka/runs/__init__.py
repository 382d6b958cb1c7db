"""The record of runs: SQLite is the only truth about what was asked, what happens, and what came of it."""

from __future__ import annotations

from typing import Any

__all__ = ["Run", "Store", "Sweep"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        from cdka.runs.store import Store

        return Store
    if name in ("Run", "Sweep"):
        from cdka.runs import run

        return getattr(run, name)
    raise AttributeError(f"module 'cdka.runs' has no attribute {name!r}")
