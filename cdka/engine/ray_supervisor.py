"""The cluster's side of the Ray engine: a detached actor that owns the tasks (``ray_task.py``).

It outlives whoever submitted: it numbers the events of each run, keeps them until the submitter has stored them, and
hands stop requests on. Files come home through it, so no shared file system is needed.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from cdka.engine import archives
from cdka.engine.ray_task import Item, execute
from cdka.runs.events import Progress

NAMESPACE = "cdka"
MAX_EVENTS = 1000
"""Events of one run in one answer."""
NODE_DEATH_S = 20.0
"""Seconds in which the death of a node becomes known behind that of its processes."""
LONG_POLL_S = 30.0


@dataclass
class _Job:
    request: Mapping[str, Any]
    place: tuple[int, str, str] | None = None
    placed_at: float = 0.0
    events: list[list[dict[str, Any]]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    progress: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    stops: list[str | None] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: tuple[str, str] | None = None
    cancelled: bool = False
    task: Any = None


class Supervisor:
    """The actor. Everything runs in its one event loop, so nothing needs a lock."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._spool = Path(tempfile.mkdtemp(prefix="cdka-supervisor-"))
        self._news = asyncio.Event()
        self._deciding: dict[str, str] = {}
        self._decided: dict[str, dict[str, str]] = {}

    # The submitter's side -----------------------------------------------------------------------------------------

    async def submit(self, request: Mapping[str, Any]) -> None:
        """Start a job; one that is known already is left as it is, so a repeated call changes nothing."""
        if request["job_id"] in self._jobs:
            return
        number = len(request["runs"])
        job = self._jobs[request["job_id"]] = _Job(
            request, events=[[] for _ in range(number)], first=[0] * number, stops=[None] * number
        )
        handle = ray.get_runtime_context().current_actor
        stream = execute.options(
            num_cpus=request["num_cpus"], num_gpus=request["num_gpus"], name=f"cdka {request['job_id']}"
        ).remote(dict(request), handle)
        job.task = stream
        asyncio.get_running_loop().create_task(self._consume(request["job_id"], job, stream))

    async def poll(self, watched: Mapping[str, Mapping[str, Any]], wait_s: float) -> dict[str, Any]:
        """The news of each job that are not known yet; None for a job that is not here (any more).

        ``watched`` says what is known: ``seqs`` (of each run, the number of events that are stored, which are dropped
        here; None for a run that has ended), ``placed`` (True where the place is), ``files`` (the version of each).
        Waits up to ``wait_s`` for news.
        """
        deadline = time.monotonic() + wait_s
        while True:
            self._news.clear()
            found = {job_id: self._answer(job_id, known) for job_id, known in watched.items()}
            found = {job_id: answer for job_id, answer in found.items() if answer != {}}
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    def _answer(self, job_id: str, known: Mapping[str, Any]) -> dict[str, Any] | None:
        job = self._jobs.get(job_id)
        if job is None:
            return None
        answer: dict[str, Any] = {}
        whole = True
        for i, stored in enumerate(known["seqs"]):
            if stored is None:  # its run has ended for the submitter: nobody wants to know
                job.events[i].clear()
                job.progress.pop(i, None)
                continue
            if (drop := max(0, stored - job.first[i])) > 0:
                del job.events[i][:drop]
                job.first[i] += drop
            if job.events[i]:
                answer.setdefault("events", {})[i] = job.events[i][:MAX_EVENTS]
                whole = whole and len(job.events[i]) <= MAX_EVENTS
        if job.progress:
            answer["progress"], job.progress = job.progress, {}
        if job.place is not None and not known["placed"]:
            answer["place"] = job.place
        if whole and job.files != known["files"]:  # never ahead of the events that lead to them
            answer["files"] = dict(job.files)
        if whole and job.outcome is not None:
            answer["outcome"] = job.outcome
        if answer and job.place is not None:
            answer["worked_s"] = time.monotonic() - job.placed_at
        return answer

    async def stop(self, job_id: str, stops: list[str | None]) -> None:
        """Hand the stop requests of a job's runs on to it."""
        job = self._jobs.get(job_id)
        if job is not None and job.stops != stops:
            job.stops = stops
            job.asked.set()

    async def cancel(self, job_id: str) -> None:
        """End a job now, wherever it is."""
        job = self._jobs.get(job_id)
        if job is not None and job.outcome is None:
            job.cancelled = True
            with suppress(Exception):
                ray.cancel(job.task, force=True)

    async def forget(self, job_id: str) -> None:
        """Drop a job that has ended, and what it sent."""
        self._jobs.pop(job_id, None)
        shutil.rmtree(self._spool / job_id, ignore_errors=True)

    async def fetch(self, job_id: str, name: str, version: int, offset: int) -> bytes | None:
        """A piece of a file that has come home; empty at its end, None where a newer one has taken its place."""
        return archives.read_piece(self._spool / job_id / f"{name}.{version}", offset)

    async def missing(self, digests: list[str]) -> list[str]:
        """Those of the inputs that are not here yet."""
        return [digest for digest in digests if not (self._spool / "inputs" / digest).is_file()]

    async def put(self, digest: str, offset: int, piece: bytes, last: bool) -> None:
        """Take a piece of an input; it is there once the last one has come."""
        archives.write_piece(self._spool / "inputs" / f"{digest}.partial", offset, piece)
        if last:
            (self._spool / "inputs" / f"{digest}.partial").replace(self._spool / "inputs" / digest)

    async def running(self) -> list[dict[str, Any]]:
        """The jobs in its hands: id, runs, place."""
        return [
            {"job_id": job_id, "runs": [run_id for run_id, _ in job.request["runs"]], "place": job.place}
            for job_id, job in self._jobs.items()
            if job.outcome is None
        ]

    # The task's side ----------------------------------------------------------------------------------------------

    async def input(self, digest: str, offset: int) -> bytes | None:
        """A piece of an input; empty at its end, None for one that is not here."""
        return archives.read_piece(self._spool / "inputs" / digest, offset)

    async def stops(self, job_id: str, known: list[str | None]) -> list[str | None] | None:
        """The stop requests of a job once they differ from ``known``, or after half a minute; None for no such job."""
        job = self._jobs.get(job_id)
        if job is not None and job.stops == known:
            job.asked.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(job.asked.wait(), LONG_POLL_S)
        return None if job is None or job_id not in self._jobs else job.stops

    async def judging(self, group: str, job_id: str) -> dict[str, str] | None:
        """The decisions of a sweep, by file; None for the one job that is to decide now. The others wait for it."""
        while group not in self._decided:
            decider = self._jobs.get(self._deciding.get(group, ""))
            if decider is None or decider.outcome is not None or self._deciding[group] == job_id:
                self._deciding[group] = job_id
                return None
            await asyncio.sleep(0.1)
        return self._decided[group]

    # Between them -------------------------------------------------------------------------------------------------

    async def _consume(self, job_id: str, job: _Job, stream: Any) -> None:
        try:
            async for reference in stream:
                self._take(job_id, job, await reference)
            outcome = ("ended", "")
        except ray.exceptions.TaskCancelledError:
            outcome = ("cancelled", "")
        except ray.exceptions.RayTaskError as error:
            outcome = ("raised", " ".join(str(error.cause or error).split())[:400])
        except ray.exceptions.OutOfMemoryError:
            outcome = ("memory", "")
        except ray.exceptions.NodeDiedError as error:
            outcome = ("cancelled" if job.cancelled else "node", type(error).__name__)
        except Exception as error:  # the errors of a dead worker or node have no base of their own
            cause = "cancelled" if job.cancelled else await self._cause_of_death(job)
            outcome = (cause, type(error).__name__)
        job.outcome = outcome
        self._news.set()

    async def _cause_of_death(self, job: _Job) -> str:
        """``node`` where the node of a task that died is gone, ``process`` where it lives on."""
        deadline = time.monotonic() + NODE_DEATH_S
        while job.place is not None and time.monotonic() < deadline:
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if job.place[1] not in alive:
                return "node"
            await asyncio.sleep(0.25)
        return "process" if job.place is not None else "node"

    def _take(self, job_id: str, job: _Job, item: Item) -> None:
        kind, content = item
        if kind == "place":
            job.place, job.placed_at = content, time.monotonic()
        elif kind == "events":
            for i, event in content:
                if event["kind"] == Progress.kind:
                    job.progress[i] = event
                else:
                    job.events[i].append(event)
        elif kind == "judging":
            self._decided.setdefault(*content)
        else:
            name, version, offset, piece, last = content
            path = self._spool / job_id / f"{name}.{version}"
            archives.write_piece(path, offset, piece)
            if last:
                path.with_name(f"{name}.{job.files.get(name, -1)}").unlink(missing_ok=True)
                job.files[name] = version
        self._news.set()
