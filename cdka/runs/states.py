"""The states of a run, and the changes from one to another that are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


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
