"""Collects a worker's events and stores them a few times a second, however fast the steps are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from cdka.runs.database import StoreBusy, StoreFull
from cdka.runs.events import LAST, Evaluated, Event, Failed, Phase, Progress, Start, Step
from cdka.runs.job_queue import Batch, record_events, stop_requests
from cdka.runs.store import Store

FLUSH_S = 0.1
RETRY_S = 1.0
STORE_WAIT_LIMIT_S = 60.0
"""Seconds that a locked database or a full disk is waited out before the worker gives up."""
AT_ONCE = (Phase, Start, Evaluated, *LAST)


def reached(event: Event, level: int | None) -> bool:
    """True for the evaluation at the step where a run pauses, to be compared with the others of its sweep."""
    return level is not None and isinstance(event, Evaluated) and event.step >= level


class Recorder:
    """The events of the claimed runs ``(run_id, attempt)``, on their way into the store, in order and only once.

    While the store cannot be written, events wait in memory and training goes on; after ``STORE_WAIT_LIMIT_S`` the
    store's own error is raised. A run that the store refuses (given up in the meantime) is silent from then on.
    ``stop_at`` is the step of each run after which it is to be kept as it is; None where that is its last.
    """

    def __init__(
        self,
        store: Store,
        runs: Sequence[tuple[str, int]],
        checkpoint_every: int = 0,
        stop_at: Sequence[int | None] = (),
    ) -> None:
        self._stop_at, self._at_level = stop_at or [None] * len(runs), set[int]()
        self._store, self._checkpoint_every = store, checkpoint_every
        self._runs = list(runs)
        self._batches = [Batch(run_id, attempt, 0) for run_id, attempt in runs]
        self._open = set(range(len(runs)))
        self._stop_requests: list[str | None] = [None] * len(runs)
        self._started = self._flushed = self._asked = time.monotonic()
        self._failing_since: float | None = None

    @property
    def open_runs(self) -> list[int]:
        """The runs that have not ended."""
        return sorted(self._open)

    def add(self, index: int, event: Event) -> None:
        """Take one event of one run; it is stored soon, and at once if people wait for it."""
        if index not in self._open:
            return
        waiting = self._batches[index].events
        if isinstance(event, Progress):  # only the last one is of interest
            waiting[:] = [earlier for earlier in waiting if not isinstance(earlier, Progress)]
        waiting.append(event)
        if reached(event, self._stop_at[index]):
            self._at_level.add(index)
        if isinstance(event, LAST):
            self._open.discard(index)
        due = FLUSH_S if self._failing_since is None else RETRY_S
        at_once = isinstance(event, AT_ONCE) or self._precedes_checkpoint(event)
        if (at_once and self._failing_since is None) or time.monotonic() - self._flushed >= due:
            self.flush()

    def _precedes_checkpoint(self, event: Event) -> bool:
        """A checkpoint must not be ahead of the record: the attempt that resumes from it would leave a gap."""
        every = self._checkpoint_every
        return bool(every) and isinstance(event, Step) and event.step % every == 0

    def stop_requested(self, index: int) -> str | None:
        """The stop asked of a run: "keep", "cancel" or None. Looks it up at most ten times a second."""
        now = time.monotonic()
        if now - self._asked >= FLUSH_S:
            self._asked = now
            with suppress(StoreBusy):  # then the answer before still stands
                self._stop_requests = stop_requests(self._store.database, self._runs)
            if self._failing_since is None and now - self._flushed >= FLUSH_S:
                self.flush()
        return self._stop_requests[index] or ("keep" if index in self._at_level else None)

    def flush(self) -> None:
        """Store what has been collected."""
        waiting = [batch for batch in self._batches if batch.events]
        self._flushed = time.monotonic()
        if not waiting:
            return
        try:
            refused = record_events(self._store.database, waiting, self._flushed - self._started)
        except (StoreBusy, StoreFull):
            if self._failing_since is None:
                self._failing_since = self._flushed
            if self._flushed - self._failing_since > STORE_WAIT_LIMIT_S:
                raise
            return
        self._failing_since = None
        for batch in waiting:
            batch.first_seq += len(batch.events)
            batch.events = []
        for index, (run_id, _) in enumerate(self._runs):
            if run_id in refused:
                self._open.discard(index)

    def close(self) -> None:
        """Store the rest, waiting up to ``STORE_WAIT_LIMIT_S`` for a store that cannot be written."""
        while any(batch.events for batch in self._batches):
            self.flush()
            if self._failing_since is not None:
                time.sleep(RETRY_S)

    def fail_all(self, cause: str) -> bool:
        """Every run that has not ended has failed, for one reason; False where even that could not be recorded."""
        try:
            for index in self.open_runs:
                self.add(index, Failed(cause=cause))
            self.close()
        except (StoreBusy, StoreFull):
            return False
        return True
