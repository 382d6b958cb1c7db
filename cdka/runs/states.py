"""The states of a run, the changes that are allowed, and the change itself, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class RunState(StrEnum):
    """The state of a run. ``stopped`` means stopped early and kept; ``lost``: its process ended without a report."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"

    def is_live(self) -> bool:
        """True where a process is, or should be, at work."""
        return self in LIVE

    def is_finished(self) -> bool:
        """True where nothing more will happen unless the run is retried."""
        return self in FINISHED

    def is_kept(self) -> bool:
        """True where there is a whole adapter and a final metric."""
        return self in KEPT

    def can_retry(self) -> bool:
        """True for a finished run that may be queued again; a run that is done may not."""
        return RunState.QUEUED in TRANSITIONS[self] and self.is_finished()

    def check_change(self, to: RunState) -> None:
        """Raises IllegalTransition unless a run may go from this state to ``to``."""
        if to not in TRANSITIONS[self]:
            allowed = ", ".join(sorted(TRANSITIONS[self])) or "nothing"
            raise IllegalTransition(f"a run that is {self} cannot become {to}: only {allowed}.")


class IllegalTransition(RuntimeError):
    """A change of state that the table does not allow. A defect of ours, never the user's."""


_ENDED_BADLY = frozenset({RunState.CANCELLED, RunState.FAILED, RunState.LOST})
_ENDED = _ENDED_BADLY | {RunState.DONE, RunState.STOPPED}

TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.STARTING, RunState.CANCELLED}),
    RunState.STARTING: _ENDED_BADLY | {RunState.RUNNING, RunState.QUEUED},
    RunState.RUNNING: _ENDED | {RunState.STOPPING},
    RunState.STOPPING: _ENDED | {RunState.STOPPING},
    RunState.DONE: frozenset(),
    RunState.STOPPED: frozenset({RunState.QUEUED}),
    RunState.CANCELLED: frozenset({RunState.QUEUED}),
    RunState.FAILED: frozenset({RunState.QUEUED}),
    RunState.LOST: frozenset({RunState.QUEUED}),
}
"""The states that may follow each state. A starting run that no worker takes up goes back to the queue."""

LIVE = (RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
WAITING = (RunState.QUEUED, *LIVE)
KEPT = (RunState.DONE, RunState.STOPPED)
ENDED_BADLY = (RunState.CANCELLED, RunState.FAILED, RunState.LOST)
FINISHED = (*KEPT, *ENDED_BADLY)
RETRIABLE = tuple(state for state in FINISHED if state.can_retry())

PHASES = ("loading", "preparing data", "training", "evaluating", "saving")
"""The phases of a live run, in this order."""


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
