"""Change the state of a run, inside a transaction. Every change of a stored state goes through here."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from cdka.runs.states import RunState

FRESH_ATTEMPT: Mapping[str, Any] = {
    "stop_requested": None,
    "phase": None,
    "progress": None,
    "step": 0,
    "first_step": 0,
    "samples": 0,
    "elapsed_s": None,
    "last_eval": None,
    "metrics": "{}",
    "error": None,
    "started_at": None,
    "finished_at": None,
    "worked_s": None,
}
"""The columns of ``runs`` that belong to one attempt, as they are before it starts."""


def change_state(sql: sqlite3.Cursor, n: int, to: RunState, **columns: Any) -> None:
    """Set the state of run number ``n``, and ``columns`` with it.

    Raises IllegalTransition where the table of states does not allow the change; the transaction then changes nothing.
    """
    (status,) = sql.execute("SELECT status FROM runs WHERE n = ?", (n,)).fetchone()
    RunState(status).check_change(to)
    set_columns(sql, n, status=to, **columns)


def set_columns(sql: sqlite3.Cursor, n: int, **columns: Any) -> None:
    """Set ``columns`` of run number ``n``."""
    assignments = ", ".join(f"{column} = ?" for column in columns)
    sql.execute(f"UPDATE runs SET {assignments} WHERE n = ?", (*columns.values(), n))


def end_attempt(sql: sqlite3.Cursor, n: int, attempt: int, now: float, status: RunState, error: str | None) -> None:
    """Record how one attempt ended."""
    sql.execute(
        "UPDATE attempts SET finished_at = ?, status = ?, error = ? WHERE n = ? AND attempt = ?",
        (now, status, error, n, attempt),
    )
