"""The engine of this machine: one worker process a job, watched by its exit code, its identity and its heartbeat."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cdka.engine import local, process, slots
from cdka.engine.contract import NO_SLOT, Report
from cdka.engine.failures import COPIED, EXIT_UNRECORDED, REBOOTED, hung, outcome_of
from cdka.engine.slots import JobSpec
from cdka.engine.spawn import AdoptedWorker, WorkerProcess, WorkerStarter
from cdka.errors import CdkaError
from cdka.paths import log_tail
from cdka.runs.job_queue import Job, LiveJob
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store

CANCEL_GRACE_S = 3.0
EXIT_GRACE_S = 10.0
"""Seconds that a worker may take to leave after the last of its runs has ended."""


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


class LocalEngine:
    """Jobs in worker processes, one for each slot of this machine; the workers record their own events."""

    def __init__(self, store: Store, starter: WorkerStarter, places: Sequence[slots.Slot] | None = None) -> None:
        self.store, self.starter = store, starter
        self.places = list(slots.detect() if places is None else places)
        self._work: dict[str, _Work] = {}

    def ready(self) -> bool:
        return self.starter.ready()

    def has_room(self) -> bool:
        return len(self._work) < len(self.places)

    def slot_for(self, spec: RunSpec) -> str | None:
        with_gpu = any(slot.gpu is not None for slot in self.places)
        suitable = [slot for slot in self.places if slots.suits(slot, spec.device, with_gpu)]
        taken = {work.job.slot for work in self._work.values()}
        free = [slot.name for slot in suitable if slot.name not in taken]
        return free[0] if free else None if suitable else NO_SLOT

    def submit(self, job: Job, specs: Sequence[RunSpec], *, alone: bool) -> None:
        place = next((slot for slot in self.places if slot.name == job.slot), None)
        if place is None:
            known = ", ".join(dict.fromkeys(slot.name for slot in self.places))
            raise CdkaError(f"its device is not on this machine, which has: {known}.")
        job_spec = JobSpec(str(self.store.home), job.runs, place, alone)
        self._work[job.job_id] = _Work(job_spec, job, self.starter.start(job_spec))

    def attach(self, live: LiveJob) -> Report | None:
        job, identity = live.job, live.identity
        job_spec = JobSpec(str(self.store.home), job.runs, slots.Slot(job.slot, None, 1))
        if identity is None:  # its worker, if there is one, will find that it comes too late
            return Report(job.job_id, unclaimed=True)
        if identity[2] != process.boot_id():
            return Report(job.job_id, outcome=(RunState.LOST, REBOOTED))
        if process.is_alive(identity) and not process.works_in(identity[0], self.store.home):
            return Report(job.job_id, outcome=(RunState.LOST, COPIED))
        self._work[job.job_id] = _Work(job_spec, job, AdoptedWorker(identity))
        return None

    def jobs(self) -> list[Job]:
        return [work.job for work in self._work.values()]

    def cancel(self, job_id: str) -> None:
        self._terminate(self._work[job_id], 0.0)

    def poll(self, live: Mapping[str, LiveJob]) -> list[Report]:
        reports = []
        for work in list(self._work.values()):
            entry = live.get(work.job.job_id)
            if work.child.ended():
                reports += self._end(work, entry)
                continue
            self._check_heartbeat(work)
            if entry is None:
                self._terminate(work, EXIT_GRACE_S)
            self._signal_those_due(work)
        return reports

    def _terminate(self, work: _Work, grace_s: float) -> None:
        if work.terminate_at is None:
            work.terminate_at = time.monotonic() + grace_s

    def _signal_those_due(self, work: _Work) -> None:
        pid, now = work.child.pid, time.monotonic()
        if work.terminate_at is None or now < work.terminate_at or pid is None:
            return
        if work.kill_at is None:
            work.kill_at = now + CANCEL_GRACE_S
            process.signal_group(pid, signal.SIGTERM)
        elif now >= work.kill_at:
            process.signal_group(pid, signal.SIGKILL)

    def _check_heartbeat(self, work: _Work) -> None:
        """Wake a worker that gives no sign of life, and end it where that does not help.

        Only one that has a heartbeat is watched: an older version's has none. What counts is that it changes, as seen
        by this process's own clock, which stands still while the machine sleeps.
        """
        pid, heartbeat, now = work.child.pid, local.heartbeat_of(work.job_spec), time.monotonic()
        if pid is None or heartbeat is None or heartbeat != work.heartbeat:
            work.heartbeat, work.heartbeat_seen_at, work.woken = heartbeat, now, False
            return
        silent_s = now - work.heartbeat_seen_at
        if silent_s > process.END_WORKER_S and work.hung_s is None:
            process.log_line(f"ending worker {pid}: no sign of life for {silent_s:.0f} s")
            work.hung_s = silent_s
            process.signal_group(pid, signal.SIGKILL)
        elif silent_s > process.WAKE_WORKER_S and not work.woken:
            process.log_line(f"waking worker {pid}: no sign of life for {silent_s:.0f} s")
            work.woken = True
            process.signal_group(pid, signal.SIGCONT)

    def _end(self, work: _Work, live: LiveJob | None) -> list[Report]:
        """The report on a worker that has ended."""
        job_id = work.job.job_id
        if live is None:
            return [Report(job_id, outcome=(RunState.LOST, ""))]  # all of its runs have ended
        exit_status = work.child.exit_status
        if exit_status is None and not isinstance(work.child, AdoptedWorker):
            # The forkserver died before it reported: unclaimed runs start again, claimed ones are watched by identity.
            del self._work[job_id]
            report = self.attach(live)
            return [] if report is None else [report]
        if exit_status is None and work.job_spec.unrecorded_path.exists():
            exit_status = EXIT_UNRECORDED
        log = log_tail(work.job_spec.log_paths()[0])
        state, cause = (RunState.LOST, hung(work.hung_s)) if work.hung_s else outcome_of(exit_status, log)
        return [Report(job_id, outcome=(RunState(state), cause), unclaimed=exit_status == EXIT_UNRECORDED)]

    def forget(self, job_id: str) -> None:
        work = self._work.pop(job_id, None)
        if work is None:
            return
        with suppress(OSError):
            work.job_spec.unrecorded_path.unlink(missing_ok=True)
        if work.child.pid is not None:
            process.reap_group(work.child.pid)

    def close(self) -> None:
        self.starter.close()

    def kill_all(self) -> None:
        """End every worker: the home was deleted, so they have nowhere to write."""
        for work in self._work.values():
            if work.child.pid is not None:
                process.signal_group(work.child.pid, signal.SIGKILL)
