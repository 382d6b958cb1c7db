"""Moves the queue: reserves runs, starts their workers, records how they end. One per home at a time, detached.

It holds no state of its own: whatever it needs to know is in the store, so it may be killed at any moment and the
next one carries on where it was. Its forkserver starts that next one; SIGTERM ends both, and the runs at work go on.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cdka.engine import local, process
from cdka.engine.contract import Engine, Report, engine_of
from cdka.engine.failures import is_full
from cdka.engine.process import fingerprint, log_line
from cdka.engine.ray import RayEngine
from cdka.engine.slots import Slot
from cdka.engine.spawn import WorkerStarter
from cdka.engine.worker import usual_priority
from cdka.engine.workers import LocalEngine
from cdka.errors import CdkaError
from cdka.paths import replace_path
from cdka.runs import halving
from cdka.runs.database import StoreBusy, StoreFull
from cdka.runs.job_queue import (
    OWNED,
    Batch,
    Job,
    LiveJob,
    anything_queued,
    claim,
    conclude,
    engines_queued,
    live_jobs,
    next_seq,
    record_events,
    requeue,
    reserve,
)
from cdka.runs.run import run_directory
from cdka.runs.spec import LOCAL
from cdka.runs.states import RunState
from cdka.runs.stop_and_retry import retry
from cdka.runs.store import Store

TICK_S = 0.03
IDLE_S = 600.0
"""Seconds that a dispatcher without work stays, with its forkserver, so that the next run starts at once."""
CHECK_CODE_EVERY_S = HALVING_EVERY_S = 0.5
WAIT_S = 1.0
"""Seconds between two tries while the store is locked or the disk is full."""
MAX_ATTEMPTS = 3
"""A run whose node died is started again until it has had so many attempts."""


class Dispatcher:
    """The loop over one home. ``step()`` is one turn, which tests call themselves.

    ``open_engine`` gives the engine of a cluster's address; that of this machine is made of ``starter`` and ``places``.
    """

    def __init__(
        self,
        store: Store,
        starter: WorkerStarter,
        places: Sequence[Slot] | None = None,
        open_engine: Callable[[Store, str], Engine] = RayEngine,
    ) -> None:
        self.store = store
        self.local = LocalEngine(store, starter, places)
        self.engines: dict[str, Engine] = {LOCAL: self.local}
        self._open_engine = open_engine
        self._leaving = False
        self._halved_at = 0.0
        self._code = fingerprint()
        self._code_checked_at = self._busy_at = time.monotonic()

    def run(self, idle_s: float = IDLE_S) -> str:
        """Work until there has been nothing to do for ``idle_s`` ("idle"), the code on disk has changed ("stale"), the
        home is gone ("gone"), or ``leave`` was called ("shut_down")."""
        database = self.store.database.path
        while not self._leaving:
            process.beat(self.store.home)
            try:
                busy = self.step()
            except (StoreBusy, StoreFull) as error:
                log_line(f"waiting: {error}")
                time.sleep(WAIT_S)
                continue
            if not database.exists():
                self.local.kill_all()
                return "gone"
            if self._stale():
                return "stale"
            now = time.monotonic()
            if busy:
                self._busy_at = now
            elif now - max(self._busy_at, local.last_warm_request(self.store.home)) > idle_s:
                return "idle"
            time.sleep(TICK_S)
        return "shut_down"

    def leave(self) -> None:
        """End ``run`` at its next turn; from a signal handler."""
        self._leaving = True

    def close(self) -> None:
        """Let the engines go; what is at work goes on."""
        for engine in self.engines.values():
            engine.close()

    def step(self) -> bool:
        """Conclude ended jobs, end cancelled ones, start what can start. True if there is anything to do."""
        asked = engines_queued(self.store.database)
        needed = {*asked, *(name for name, engine in self.engines.items() if engine.jobs())} or {LOCAL}
        ready = {name: engine.ready() for name, engine in self.engines.items() if name in needed}
        jobs = live_jobs(self.store.database)
        local.conclude_orphans(self.store, jobs)
        live = {entry.job.job_id: entry for entry in jobs if entry.job.slot not in OWNED}
        known = {job.job_id for engine in self.engines.values() for job in engine.jobs()}
        for job_id, entry in live.items():
            if job_id not in known:
                self._take(self.engine(engine_of(entry.job.slot)).attach(entry), entry)
        for engine in list(self.engines.values()):
            for job in engine.jobs():
                if job.job_id in live and live[job.job_id].cancelled:
                    engine.cancel(job.job_id)
            for report in engine.poll(live):
                self._take(report, live.get(report.job_id))
                if report.outcome is not None:
                    engine.forget(report.job_id)
        self._advance_halvings()
        self._start_what_fits(asked, ready)
        return any(engine.jobs() for engine in self.engines.values()) or anything_queued(self.store.database)

    def engine(self, name: str) -> Engine:
        """The engine of this name, opened where it is asked for the first time."""
        if name not in self.engines:
            self.engines[name] = self._open_engine(self.store, name)
        return self.engines[name]

    def _stale(self) -> bool:
        """True once the code on disk is not what this process, and so its forkserver, has imported."""
        now = time.monotonic()
        if now - self._code_checked_at < CHECK_CODE_EVERY_S:
            return False
        self._code_checked_at = now
        return fingerprint() != self._code

    def _start_what_fits(self, asked: Sequence[str], ready: Mapping[str, bool]) -> None:
        for name in asked:
            engine = self.engine(name)  # one that was not here before connects now, and is ready in a later turn
            while (
                ready.get(name)
                and engine.has_room()
                and (job := reserve(self.store.database, engine.slot_for, engine=name))
            ):
                self._start(engine, job)

    def _advance_halvings(self) -> None:
        now = time.monotonic()
        if now - self._halved_at >= HALVING_EVERY_S:
            self._halved_at = now
            halving.advance(self.store)

    def _start(self, engine: Engine, job: Job) -> None:
        found = {run.run_id: run.spec for run in self.store.runs(ids=[run_id for run_id, _ in job.runs])}
        specs = [found[run_id] for run_id, _ in job.runs]
        alone = not engine.jobs() and not anything_queued(self.store.database)
        try:
            engine.submit(job, specs, alone=alone)
        except CdkaError as error:
            conclude(self.store.database, job.runs, RunState.FAILED, str(error))
        except OSError as error:
            if is_full(error):
                requeue(self.store.database, job.runs)
                raise StoreFull(f"no log could be written for a worker ({error.strerror}).") from None
            reason = f"no process could be started: {error.strerror}. Retry the run."
            conclude(self.store.database, job.runs, RunState.FAILED, reason)

    def _take(self, report: Report | None, live: LiveJob | None) -> None:
        """Store what an engine reports about a job; ``live`` is None where all of its runs have ended."""
        if report is None or live is None:
            return
        runs, database = dict(live.job.runs), self.store.database
        if report.place is not None:
            pid, node, words = report.place
            for run_id, attempt in live.job.runs:
                claim(database, run_id, attempt, (pid, words, node), slot=f"{live.job.slot.split()[0]} {words}")
        self._put_in_place(report.finished)
        self._record(report, runs)
        self._put_in_place(report.after)
        if report.unclaimed:
            requeue(database, live.job.runs)
        if report.outcome is not None:
            ended = conclude(database, live.job.runs, *report.outcome)
            again = [run_id for run_id in ended if report.again and runs[run_id] < MAX_ATTEMPTS]
            states = {run.run_id: run.status for run in self.store.runs(ids=again)}
            retry(database, self.store.home, [run_id for run_id in again if states.get(run_id) == RunState.LOST])

    def _record(self, report: Report, attempts: Mapping[str, int]) -> None:
        """Store events that were brought home, numbered on from the last one in the store."""
        batches = []
        for run_id, events in report.events.items():
            if run_id in attempts and events:
                key = run_id, attempts[run_id]
                batches.append(Batch(*key, next_seq(self.store.database, *key), list(events)))
        if batches:
            record_events(self.store.database, batches, report.worked_s)

    def _put_in_place(self, arrived: Mapping[str, Mapping[str, Path]]) -> None:
        """Rename what has arrived for a run into its folder, in place of what was there."""
        for run_id, names in arrived.items():
            directory = run_directory(self.store.home, run_id)
            for name, path in names.items():
                replace_path(path, directory / name)


def _open_store(home: str) -> Store:
    """The store of a home, once it can be opened: a full disk and a lock are waited for."""
    while True:
        process.beat(Path(home))
        try:
            return Store(home)
        except (StoreBusy, StoreFull) as error:
            log_line(f"waiting: {error}")
            time.sleep(WAIT_S)


def main(
    home: str, starter: WorkerStarter | None = None, *, command: Sequence[str] | None = None, idle_s: float = IDLE_S
) -> None:
    """Be the dispatcher of ``home`` unless there is one; leave when there is nothing to do."""
    with process.dispatcher_lock(Path(home)) as mine:
        if not mine:
            return
        usual_priority()
        store = _open_store(home)
        starter = starter or WorkerStarter(store.home)
        dispatcher = Dispatcher(store, starter)
        signal.signal(signal.SIGTERM, lambda number, frame: dispatcher.leave())
        reason = dispatcher.run(idle_s)
        dispatcher.close()
    if reason not in ("gone", "shut_down"):  # something may have been queued at the last moment, or the code is new
        local.ensure_dispatcher(store, command=command)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except CdkaError as error:
        sys.exit(f"dispatcher: {error}")
