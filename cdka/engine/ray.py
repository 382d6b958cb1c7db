"""The engine of a Ray cluster as its dispatcher and the doors see it; Ray itself is imported by the bridge alone.

The store on this machine stays the only truth. A detached actor of the cluster owns the tasks (``ray_supervisor.py``),
a process of its own holds the connection (``ray_bridge.py``), and this module hands jobs out and reports in.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdka.engine.archives import local_paths, texts, write_new
from cdka.engine.clusters import BRIDGE, write_state
from cdka.engine.contract import NO_SLOT, Report
from cdka.engine.process import log_line
from cdka.engine.ray_connection import Connection
from cdka.engine.recorder import FLUSH_S
from cdka.engine.slots import MAX_CPU_SLOTS
from cdka.errors import CdkaError
from cdka.paths import assets_dir
from cdka.runs import halving
from cdka.runs.events import from_dict
from cdka.runs.job_queue import Job, LiveJob, all_stop_requests, next_seq
from cdka.runs.run import run_directory
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store

STOPS_EVERY_S = 0.2
FORCE_S, LEAVE_S = 3.0, 10.0
"""Seconds from a request to cancel, and from the end of its last run, until a job is ended by force."""
ITEMS_PER_S = 1000.0
"""Messages that a supervisor takes with ease: where more jobs could be at work, each collects events for longer."""
_GONE = "the cluster was restarted, and with it went whatever was at work there. Retry the run."


@dataclass
class _Work:
    job: Job
    runs: list[list[str]]
    kind: str = "cpu"
    devices: int = 1
    placed: bool = False
    files: dict[str, int] = field(default_factory=dict)
    stops: list[str | None] = field(default_factory=list)
    pending: Report | None = None
    ends: dict[str, int] = field(default_factory=dict)
    new_files: dict[str, int] = field(default_factory=dict)
    delivered: bool = False
    force_at: float | None = None
    request: dict[str, Any] | None = None
    over: set[str] = field(default_factory=set)


class RayEngine:
    """Jobs as tasks of one cluster. What it knows stands in the store; the rest it learns anew from each bridge."""

    def __init__(self, store: Store, address: str, bridge: Sequence[str] = BRIDGE) -> None:
        self.store, self.address = store, address
        self.nodes: list[dict[str, Any]] = []
        self.error = ""
        self._connection = Connection(address, store.home, bridge)
        self._work: dict[str, _Work] = {}
        self._stops_at = 0.0
        self._silent = False
        self._called_off: list[str] = []

    # The contract ---------------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        self._receive()
        self._connection.keep()
        return self._connection.connected and bool(self.nodes)

    def has_room(self) -> bool:
        used = self._used()
        return any(used[kind] < number for kind, number in self._capacity().items())

    def slot_for(self, spec: RunSpec) -> str | None:
        kind, capacity = self._kind(spec), self._capacity()
        if not capacity[kind]:
            return NO_SLOT if sum(capacity.values()) else None
        return self.address if self._used()[kind] + spec.num_processes <= capacity[kind] else None

    def submit(self, job: Job, specs: Sequence[RunSpec], *, alone: bool) -> None:
        if job.slot == NO_SLOT:
            raise CdkaError(f"its device ({specs[0].device}) is on no node of {self.address}. See: cdka cluster")
        work = self._work[job.job_id] = self._new(job)
        work.kind, work.devices = self._kind(specs[0]), specs[0].num_processes
        run_ids = [run_id for run_id, _ in job.runs]
        group = self.store.run(run_ids[0]).sweep_id or run_ids[0]
        from cdka import __version__

        checkpoints = {
            str(i): str(folder)
            for i, run_id in enumerate(run_ids)
            if (folder := run_directory(self.store.home, run_id) / "checkpoint").is_dir()
        }
        work.request = {
            "job_id": job.job_id,
            "runs": [list(pair) for pair in job.runs],
            "specs": [spec.to_dict() for spec in specs],
            "group": group,
            "judging": texts(self.store.home / "judging" / group),
            "stop_at": halving.levels_ahead(self.store, run_ids),
            "threads": self._threads(),
            "flush_s": max(FLUSH_S, sum(self._capacity().values()) / ITEMS_PER_S),
            "num_cpus": 1 if work.kind == "gpu" else self._threads(),
            "num_gpus": work.devices if work.kind == "gpu" else 0,
            "versions": {"cdka": __version__},
            "assets": str(assets_dir()),
            "paths": list(dict.fromkeys(str(path) for spec in specs for path in local_paths(spec))),
            "checkpoints": checkpoints,
        }
        self._introduce(work)

    def attach(self, live: LiveJob) -> Report | None:
        if live.identity is None:  # it has not begun: it starts anew, and what waits on the cluster is called off
            self._called_off.append(live.job.job_id)
            return Report(live.job.job_id, unclaimed=True)
        work = self._work[live.job.job_id] = self._new(live.job)
        work.placed = True
        work.kind = "gpu" if "cuda" in live.job.slot else "cpu"
        self._introduce(work)
        return None

    def jobs(self) -> list[Job]:
        return [work.job for work in self._work.values()]

    def cancel(self, job_id: str) -> None:
        self._force(self._work[job_id], FORCE_S)

    def poll(self, live: Mapping[str, LiveJob]) -> list[Report]:
        self._receive()
        self._hand_stops_on(live)
        reports = []
        for job_id, work in self._work.items():
            if job_id not in live:
                self._force(work, LEAVE_S if work.placed else 0.0)
            work.over = {run_id for run_id, _ in work.job.runs} - dict(
                live[job_id].job.runs if job_id in live else ()
            ).keys()
            if work.pending is not None and work.delivered and self._is_stored(work, live.get(job_id)):
                self._acknowledge(work)
            if work.pending is not None:
                work.delivered = True
                reports.append(self._still_new(work))
        return reports

    def forget(self, job_id: str) -> None:
        if self._work.pop(job_id, None) is not None:
            self._send({"do": "forget", "job_id": job_id})

    def close(self) -> None:
        self._connection.close()

    # Slots ----------------------------------------------------------------------------------------------------------

    def _capacity(self) -> dict[str, int]:
        """The number of jobs that may be at work: one for each GPU; on a node's CPU as many as on this machine's."""
        return {
            "gpu": sum(node["gpus"] for node in self.nodes),
            "cpu": sum(min(node["cpus"], MAX_CPU_SLOTS) for node in self.nodes),
        }

    def _threads(self) -> int:
        """The threads of every job on the CPU, those of the smallest node, so that sums are added alike everywhere."""
        shares = [node["cpus"] // min(node["cpus"], MAX_CPU_SLOTS) for node in self.nodes if node["cpus"]]
        return max(1, min(shares, default=1))

    def _kind(self, spec: RunSpec) -> str:
        on_gpu = spec.device.startswith("cuda") or (spec.device == "auto" and self._capacity()["gpu"] > 0)
        return "gpu" if on_gpu else "cpu"

    def _used(self) -> Counter[str]:
        used: Counter[str] = Counter()
        for work in self._work.values():
            used[work.kind] += work.devices
        return used

    # Jobs -----------------------------------------------------------------------------------------------------------

    def _new(self, job: Job) -> _Work:
        runs = [[run_id, str(run_directory(self.store.home, run_id))] for run_id, _ in job.runs]
        return _Work(job, runs, stops=[None] * len(job.runs))

    def _known(self, work: _Work) -> dict[str, Any]:
        """The known state of a job, for the bridge: the events that are stored, its place, its files."""
        seqs = [
            None if run_id in work.over else next_seq(self.store.database, run_id, attempt)
            for run_id, attempt in work.job.runs
        ]
        known = {"seqs": seqs, "placed": work.placed, "files": work.files, "runs": work.runs}
        return {"job_id": work.job.job_id, **known}

    def _introduce(self, work: _Work) -> None:
        """Tell the bridge of a job: one that has not begun is submitted, again if need be, which changes nothing."""
        if work.request is None or work.placed:
            self._send({"do": "watch", **self._known(work)})
        else:
            self._send({"do": "submit", "request": work.request, **self._known(work)})

    def _force(self, work: _Work, grace_s: float) -> None:
        now = time.monotonic()
        if work.force_at is None:
            work.force_at = now + grace_s
        if now >= work.force_at:
            work.force_at = now + LEAVE_S  # should the answer get lost
            self._send({"do": "cancel", "job_id": work.job.job_id})

    def _hand_stops_on(self, live: Mapping[str, LiveJob]) -> None:
        now = time.monotonic()
        if now - self._stops_at < STOPS_EVERY_S:
            return
        self._stops_at = now
        asked = all_stop_requests(self.store.database)
        for job_id, work in self._work.items():
            stops = [asked.get(pair) for pair in work.job.runs]
            if job_id in live and stops != work.stops:
                work.stops = stops
                self._send({"do": "stop", "job_id": job_id, "stops": stops})

    def _is_stored(self, work: _Work, live: LiveJob | None) -> bool:
        if live is None:
            return True
        attempts = dict(live.job.runs)
        return all(
            next_seq(self.store.database, run_id, attempts[run_id]) >= end
            for run_id, end in work.ends.items()
            if run_id in attempts
        )

    def _still_new(self, work: _Work) -> Report:
        """The report without what was stored when it was handed out before."""
        report, attempts = work.pending, dict(work.job.runs)
        assert report is not None
        left = {}
        for run_id, events in report.events.items():
            missing = work.ends[run_id] - next_seq(self.store.database, run_id, attempts[run_id])
            kept = [event for event in events if event.kind == "progress"]
            numbered = [event for event in events if event.kind != "progress"]
            left[run_id] = [*numbered[len(numbered) - max(0, missing) :], *kept]
        present = {
            which: {
                run_id: {name: path for name, path in names.items() if path.exists()} for run_id, names in found.items()
            }
            for which, found in (("finished", report.finished), ("after", report.after))
        }
        return Report(
            report.job_id,
            report.place,
            left,
            present["finished"],
            present["after"],
            report.worked_s,
            report.outcome,
            report.unclaimed,
            report.again,
        )

    def _acknowledge(self, work: _Work) -> None:
        work.placed = work.placed or (work.pending is not None and work.pending.place is not None)
        work.files = {**work.files, **work.new_files}
        work.pending, work.delivered, work.new_files = None, False, {}
        for _, directory in work.runs:
            for arrived in Path(directory).glob(".arrived-*"):
                shutil.rmtree(arrived, ignore_errors=True)
        self._send({"do": "watch", **self._known(work)})

    def _take(self, message: Mapping[str, Any]) -> None:
        """Make a report of the bridge's answer about one job."""
        work = self._work.get(message["report"])
        if work is None or work.pending is not None:
            return
        run_ids = [run_id for run_id, _ in work.job.runs]
        events, ends = {}, {}
        for i, found in message.get("events", {}).items():
            run_id, attempt = work.job.runs[int(i)]
            events[run_id] = [from_dict(event) for event in found]
            ends[run_id] = next_seq(self.store.database, run_id, attempt) + len(found)
        for i, progress in message.get("progress", {}).items():
            events.setdefault(run_ids[int(i)], []).append(from_dict(progress))
            ends.setdefault(run_ids[int(i)], 0)
        finished: dict[str, dict[str, Path]] = {}
        after: dict[str, dict[str, Path]] = {}
        for name, folder in message.get("arrived", {}).items():
            index, what = name.split("-", 1)
            if what == "checkpoint":
                after[run_ids[int(index)]] = {"checkpoint": Path(folder)}
            else:
                entries = {path.name: path for path in Path(folder).iterdir()}
                if (judging := entries.pop("judging", None)) is not None:
                    group = self.store.run(run_ids[int(index)]).sweep_id or run_ids[0]
                    write_new(self.store.home / "judging" / group, texts(judging))
                finished[run_ids[int(index)]] = entries
        work.new_files, work.ends, work.delivered = dict(message.get("files", {})), ends, False
        place = message.get("place")
        outcome, again = self._outcome(message.get("outcome"), work)
        work.pending = Report(
            work.job.job_id,
            place=None if place is None else (int(place[0]), str(place[1]), str(place[2])),
            events=events,
            finished=finished,
            after=after,
            worked_s=float(message.get("worked_s", 0.0)),
            outcome=outcome,
            again=again,
        )

    @staticmethod
    def _outcome(found: Sequence[str] | None, work: _Work) -> tuple[tuple[RunState, str] | None, bool]:
        """(what becomes of runs that have not ended, True where they are to be started again)."""
        if found is None:
            return None, False
        kind, detail = found
        lost = {
            "node": f"its node died ({detail}).",
            "process": f"its process on the node ended without a report ({detail}). Retry the run.",
            "gone": _GONE,
            "cancelled": "it was cancelled on the cluster. Retry the run.",
            "memory": "the node ran out of memory, and Ray ended the run. Lower batch_size, and retry the run.",
        }
        if kind in lost:
            return (RunState.LOST, lost[kind]), kind == "node"
        words = {"raised": f"the cluster could not start it: {detail}", "unsent": detail}
        return (RunState.FAILED, words.get(kind, "its task ended without a result.")), False

    # The bridge -----------------------------------------------------------------------------------------------------

    def _send(self, message: Mapping[str, Any]) -> None:
        self._connection.send(message)

    def _receive(self) -> None:
        for message in self._connection.received():
            self._hear(message)
        if self._connection.is_silent() != self._silent:
            self._silent = not self._silent
            self.error = f"nothing has been heard of the cluster at {self.address}." if self._silent else ""
            self._write_state()
        if self._connection.lost():
            self.error = self.error or f"the connection to the cluster at {self.address} was lost."
            log_line(f"{self.address}: {self.error}")
            self._write_state()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "connected" in message:
            self.error = ""
            for work in self._work.values():
                work.stops = [None] * len(work.job.runs)
                if work.pending is None:
                    self._introduce(work)
            for job_id in self._called_off:
                self._send({"do": "cancel", "job_id": job_id})
                self._send({"do": "forget", "job_id": job_id})
            self._called_off.clear()
        elif "nodes" in message:
            self.nodes = message["nodes"]
            self._write_state()
        elif "error" in message:
            self.error = message["error"]
        elif "note" in message:
            log_line(message["note"])
        else:
            self._take(message)

    def _write_state(self) -> None:
        with suppress(OSError):
            write_state(self.store.home, self.address, {"nodes": self.nodes, "error": self.error})
