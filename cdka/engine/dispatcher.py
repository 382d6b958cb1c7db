"""Moves the queue: reserves runs, starts their workers, records how they end. One per home at a time, detached.

It holds no state of its own: whatever it needs to know is in the store, so it may be killed at any moment and the
next one carries on where it was. Its forkserver starts that next one; SIGTERM ends both, and the runs at work go on.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cdka.engine import local, process, slots
from cdka.engine.failures import COPIED, EXIT_UNRECORDED, REBOOTED, hung, is_full, outcome_of
from cdka.engine.process import fingerprint
from cdka.engine.slots import JobSpec
from cdka.engine.spawn import AdoptedWorker, WorkerProcess, WorkerStarter
from cdka.engine.worker import usual_priority
from cdka.errors import CdkaError
from cdka.paths import log_tail
from cdka.runs.database import StoreBusy, StoreFull
from cdka.runs.job_queue import OWNED, Job, LiveJob, anything_queued, conclude, live_jobs, requeue, reserve
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store

TICK_S = 0.03
IDLE_S = 600.0
"""Seconds that a dispatcher without work stays, with its forkserver, so that the next run starts at once."""
CANCEL_GRACE_S = 3.0
EXIT_GRACE_S = 10.0
"""Seconds that a worker may take to leave after the last of its runs has ended."""
CHECK_CODE_EVERY_S = 0.5
WAIT_S = 1.0
"""Seconds between two tries while the store is locked or the disk is full."""
NO_SLOT = "none"


@dataclass
class _Work:
    """A job at work, and when each step towards ending it is due."""

    job_spec: JobSpec
    job: Job
    child: WorkerProcess
    terminate_at: float | None = None
    kill_at: float | None = None
    heartbeat: float | None = None
    heartbeat_seen_at: float = 0.0
    woken: bool = False
    hung_s: float | None = None


class Dispatcher:
    """The loop over one home. ``step()`` is one turn, which tests call themselves."""

    def __init__(self, store: Store, starter: WorkerStarter, places: Sequence[slots.Slot] | None = None) -> None:
        self.store, self.starter = store, starter
        self.places = list(slots.detect() if places is None else places)
        self._work: dict[str, _Work] = {}
        self._leaving = False
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
                _log(f"waiting: {error}")
                time.sleep(WAIT_S)
                continue
            if not database.exists():
                self._abandon()
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

    def step(self) -> bool:
        """Conclude ended workers, end cancelled ones, start what can start. True if there is anything to do."""
        ready = self.starter.ready()
        jobs = live_jobs(self.store.database)
        local.conclude_orphans(self.store, jobs)
        live = {entry.job.job_id: entry for entry in jobs if entry.job.slot not in OWNED}
        for entry in live.values():
            if entry.job.job_id not in self._work:
                self._adopt(entry)
        for work in list(self._work.values()):
            self._watch(work, live.get(work.job.job_id))
        while ready and len(self._work) < len(self.places) and (job := reserve(self.store.database, self._slot_for)):
            self._start(job)
        return bool(self._work) or anything_queued(self.store.database)

    def _stale(self) -> bool:
        """True once the code on disk is not what this process, and so its forkserver, has imported."""
        now = time.monotonic()
        if now - self._code_checked_at < CHECK_CODE_EVERY_S:
            return False
        self._code_checked_at = now
        return fingerprint() != self._code

    def _slot_for(self, spec: RunSpec) -> str | None:
        with_gpu = any(slot.gpu is not None for slot in self.places)
        suitable = [slot for slot in self.places if slots.suits(slot, spec.device, with_gpu)]
        taken = {work.job.slot for work in self._work.values()}
        free = [slot.name for slot in suitable if slot.name not in taken]
        return free[0] if free else None if suitable else NO_SLOT

    def _start(self, job: Job) -> None:
        place = next((slot for slot in self.places if slot.name == job.slot), None)
        if place is None:
            known = ", ".join(dict.fromkeys(slot.name for slot in self.places))
            self._fail(job, f"its device is not on this machine, which has: {known}.")
            return
        alone = not self._work and not anything_queued(self.store.database)
        job_spec = JobSpec(str(self.store.home), job.runs, place, alone)
        try:
            child = self.starter.start(job_spec)
        except OSError as error:
            if is_full(error):
                requeue(self.store.database, job.runs)
                raise StoreFull(f"no log could be written for a worker ({error.strerror}).") from None
            self._fail(job, f"no process could be started: {error.strerror}. Retry the run.")
            return
        self._work[job.job_id] = _Work(job_spec, job, child)

    def _fail(self, job: Job, reason: str) -> None:
        conclude(self.store.database, job.runs, RunState.FAILED, reason)

    def _adopt(self, entry: LiveJob) -> None:
        """Take over a live job that this dispatcher has not started, or see that it is none."""
        job, identity = entry.job, entry.identity
        job_spec = JobSpec(str(self.store.home), job.runs, slots.Slot(job.slot, None, 1))
        if identity is None:
            requeue(self.store.database, job.runs)  # its worker, if there is one, will find that it comes too late
        elif identity[2] != process.boot_id():
            conclude(self.store.database, job.runs, RunState.LOST, REBOOTED)
        elif process.is_alive(identity) and not process.works_in(identity[0], self.store.home):
            conclude(self.store.database, job.runs, RunState.LOST, COPIED)
        else:
            self._work[job.job_id] = _Work(job_spec, job, AdoptedWorker(identity))

    def _watch(self, work: _Work, live: LiveJob | None) -> None:
        """Conclude a worker that has ended; end one whose runs are all cancelled, or that does not leave."""
        if work.child.ended():
            self._end(work, live)
            return
        now = time.monotonic()
        self._check_heartbeat(work, now)
        if work.terminate_at is None and (live is None or live.cancelled):
            work.terminate_at = now + (EXIT_GRACE_S if live is None else 0.0)
        pid = work.child.pid
        if work.terminate_at is None or now < work.terminate_at or pid is None:
            return
        if work.kill_at is None:
            work.kill_at = now + CANCEL_GRACE_S
            process.signal_group(pid, signal.SIGTERM)
        elif now >= work.kill_at:
            process.signal_group(pid, signal.SIGKILL)

    def _check_heartbeat(self, work: _Work, now: float) -> None:
        """Wake a worker that gives no sign of life, and end it where that does not help.

        Only one that has a heartbeat is watched: an older version's has none. What counts is that it changes, as seen
        by this process's own clock, which stands still while the machine sleeps.
        """
        pid, heartbeat = work.child.pid, local.heartbeat_of(work.job_spec)
        if pid is None or heartbeat is None or heartbeat != work.heartbeat:
            work.heartbeat, work.heartbeat_seen_at, work.woken = heartbeat, now, False
            return
        silent_s = now - work.heartbeat_seen_at
        if silent_s > process.END_WORKER_S and work.hung_s is None:
            _log(f"ending worker {pid}: no sign of life for {silent_s:.0f} s")
            work.hung_s = silent_s
            process.signal_group(pid, signal.SIGKILL)
        elif silent_s > process.WAKE_WORKER_S and not work.woken:
            _log(f"waking worker {pid}: no sign of life for {silent_s:.0f} s")
            work.woken = True
            process.signal_group(pid, signal.SIGCONT)

    def _end(self, work: _Work, live: LiveJob | None) -> None:
        if live is not None and work.child.exit_status is None and not isinstance(work.child, AdoptedWorker):
            # The forkserver died before it reported: unclaimed runs start again, claimed ones are watched by identity.
            del self._work[work.job.job_id]
            self._adopt(live)
            return
        if live is not None:
            exit_status = work.child.exit_status
            if exit_status is None and work.job_spec.unrecorded_path.exists():
                exit_status = EXIT_UNRECORDED
            if exit_status == EXIT_UNRECORDED:
                requeue(self.store.database, live.job.runs)  # those that it could not even claim
            log = log_tail(work.job_spec.log_paths()[0])
            lost = (RunState.LOST, hung(work.hung_s)) if work.hung_s else outcome_of(exit_status, log)
            conclude(self.store.database, live.job.runs, *lost)
            with suppress(OSError):
                work.job_spec.unrecorded_path.unlink(missing_ok=True)
        if work.child.pid is not None:
            process.reap_group(work.child.pid)
        del self._work[work.job.job_id]

    def _abandon(self) -> None:
        """The home was deleted: its workers have nowhere to write."""
        for work in self._work.values():
            if work.child.pid is not None:
                process.signal_group(work.child.pid, signal.SIGKILL)


def _log(message: str) -> None:
    """Print to the dispatcher's log; a full disk takes nothing, and that is no reason to die."""
    with suppress(OSError, ValueError):
        print(message, flush=True)


def _open_store(home: str) -> Store:
    """The store of a home, once it can be opened: a full disk and a lock are waited for."""
    while True:
        process.beat(Path(home))
        try:
            return Store(home)
        except (StoreBusy, StoreFull) as error:
            _log(f"waiting: {error}")
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
        starter.close()
    if reason not in ("gone", "shut_down"):  # something may have been queued at the last moment, or the code is new
        local.ensure_dispatcher(store, command=command)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except CdkaError as error:
        sys.exit(f"dispatcher: {error}")
