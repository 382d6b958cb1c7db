"""The cluster's side of the Ray engine: a detached actor that owns the tasks, and the task that trains one job.

The actor outlives whoever submitted: it numbers the events of each run, keeps them until the submitter has stored them,
and hands stop requests on. Files come home through it, so no shared file system is needed, and no code travels: every
node has this package installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from cdka.engine import archives, worker
from cdka.engine.failures import cause_of
from cdka.engine.recorder import AT_ONCE, reached
from cdka.paths import assets_dir, home_dir
from cdka.runs.events import LAST, Evaluated, Failed, Judged, Memory, Progress
from cdka.runs.resolve import ResolvedRun, resolve_runs
from cdka.runs.run import run_directory
from cdka.runs.spec import AUTO, RunSpec

NAMESPACE = "cdka"
MAX_EVENTS = 1000
"""Events of one run in one answer."""
NODE_DEATH_S = 10.0
"""Seconds in which the death of a node becomes known behind that of its processes."""
LONG_POLL_S = 30.0
Item = tuple[str, Any]
"""What the task yields: ``place``, ``events``, ``file`` or ``judging``, with its content."""


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
        """What each job has to tell that is not known yet; None for a job that is not here (any more).

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


# The task ---------------------------------------------------------------------------------------------------------


@ray.remote(num_returns="streaming", max_retries=0, scheduling_strategy="SPREAD")
def execute(request: dict[str, Any], supervisor: Any) -> Iterator[Item]:
    """Train one job on the node that this runs on."""
    yield from work(request, supervisor)


def node_home() -> Path:
    """The folder of this node for inputs and decisions; it may be shared between nodes."""
    return home_dir() / "node"


def work(request: dict[str, Any], supervisor: Any) -> Iterator[Item]:
    """The items of a job, from its place to the last event of each of its runs."""
    gpus = ",".join(str(number) for number in ray.get_gpu_ids())
    os.environ.update({"CDKA_GPUS": gpus, "TOKENIZERS_PARALLELISM": "false"})
    device = f"cuda:{gpus}" if gpus else "cpu"
    node = ray.get_runtime_context().get_node_id()
    yield "place", (os.getpid(), node, f"{socket.gethostname()}/{node[:6]} {device}")
    folder = Path(tempfile.mkdtemp(prefix="cdka-job-"))
    try:
        yield from _Execution(request, supervisor, folder, on_gpu=bool(gpus)).items()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Execution:
    """One job at work in this process."""

    def __init__(self, request: dict[str, Any], supervisor: Any, folder: Path, *, on_gpu: bool) -> None:
        self.request, self.supervisor, self.on_gpu = request, supervisor, on_gpu
        self.run_ids = [run_id for run_id, _ in request["runs"]]
        self.directories = [run_directory(folder, run_id) for run_id in self.run_ids]
        self.open = set(range(len(self.run_ids)))
        self.stops: list[str | None] = [None] * len(self.run_ids)
        self.at_level: set[int] = set()
        self.places: dict[str, str] = {}
        self.waiting: list[tuple[int, dict[str, Any]]] = []
        self.versions: dict[str, int] = {}
        self.flushed = time.monotonic()

    def items(self) -> Iterator[Item]:
        runs: list[ResolvedRun] = []
        watching = threading.Thread(target=self._watch_stops, daemon=True)
        for directory in self.directories:
            directory.mkdir(parents=True)
        log = self.directories[0] / f"attempt-{self.request['runs'][0][1]}.log"
        worker.reset_peak()
        with _printing_to(log):
            try:
                _check_versions(self.request["versions"])
                self._fetch_inputs()
                specs = [self._spec(data) for data in self.request["specs"]]
                watching.start()
                runs = resolve_runs(specs)
                train = worker.load_train()
                worker.limit_threads(self.request["threads"])
                group = self._judging(specs[0])
                for index, event in train(runs, self.directories, self._stop_requested, group):
                    yield from self._take(index, event, group)
                    if not self.open:
                        break
                cause = "the training loop ended without a result; this is a defect, please report it."
            except Exception as error:
                traceback.print_exc()
                cause = cause_of(error, runs, worker.peak_bytes(), worker.device_type())
            for index in sorted(self.open):
                yield from self._take(index, Failed(cause=cause), None)
        yield from self._flush()

    def _spec(self, data: dict[str, Any]) -> RunSpec:
        """The spec as this node sees it: with its own paths, and the one device that it was given."""
        spec = RunSpec.from_dict(archives.relocated(data, self.places))
        return spec.with_(device="cuda:0" if self.on_gpu else "cpu")

    def _fetch_inputs(self) -> None:
        if self.request["assets"] != str(assets_dir()):
            self.places[self.request["assets"]] = str(assets_dir())
        for path, digest in self.request["inputs"].items():
            self.places[path] = str(archives.fetch_input(node_home(), digest, Path(path).name, self._input(digest)))
        for i, digest in self.request["checkpoints"].items():
            source = archives.fetch_input(node_home(), digest, "checkpoint", self._input(digest))
            shutil.copytree(source, self.directories[int(i)] / "checkpoint")
            archives.relocate(self.directories[int(i)] / "checkpoint", self.places)

    def _input(self, digest: str) -> Callable[[int], bytes | None]:
        return lambda offset: ray.get(self.supervisor.input.remote(digest, offset))

    def _judging(self, spec: RunSpec) -> Path:
        """The folder of the sweep's decisions; waits where another run of the sweep is about to decide."""
        group = node_home() / "judging" / self.request["group"]
        known = dict(self.request["judging"])
        if AUTO in (spec.eval_examples, spec.generate_examples, spec.test_examples):
            known |= ray.get(self.supervisor.judging.remote(self.request["group"], self.request["job_id"])) or {}
        archives.write_new(group, known)
        return group

    def _stop_requested(self, index: int) -> str | None:
        return self.stops[index] or ("keep" if index in self.at_level else None)

    def _watch_stops(self) -> None:
        """Follow the stop requests; without the supervisor nobody waits for this job, and it ends."""
        while self.open:
            try:
                stops = ray.get(self.supervisor.stops.remote(self.request["job_id"], self.stops))
            except Exception:
                stops = None
            if stops is None:
                if self.open:
                    os._exit(1)
                return
            self.stops = stops

    def _take(self, index: int, event: Any, group: Path | None) -> Iterator[Item]:
        if index not in self.open:
            return
        if isinstance(event, LAST):
            yield from self._flush()
            yield from self._send_checkpoints()
            self.open.discard(index)
            if group is not None:  # what was decided for the sweep outlives the cluster
                archives.write_new(self.directories[index] / "judging", archives.texts(group))
            yield from self._send(index, "final", self.directories[index])
        if isinstance(event, Progress):
            self.waiting = [(i, e) for i, e in self.waiting if i != index or e["kind"] != Progress.kind]
        self.waiting.append((index, event.to_dict()))
        if isinstance(event, Evaluated):
            self.waiting.append((index, Memory(peak_bytes=worker.peak_bytes()).to_dict()))
        if reached(event, self.request["stop_at"][index]):
            self.at_level.add(index)
        if isinstance(event, AT_ONCE) or time.monotonic() - self.flushed >= self.request["flush_s"]:
            yield from self._flush()
            yield from self._send_checkpoints()
        if isinstance(event, Judged) and group is not None:
            yield "judging", (self.request["group"], archives.texts(group))

    def _flush(self) -> Iterator[Item]:
        self.flushed = time.monotonic()
        if self.waiting:
            yield "events", self.waiting
            self.waiting = []

    def _send_checkpoints(self) -> Iterator[Item]:
        """Send each checkpoint that was written since the last look."""
        for index in sorted(self.open):
            folder = self.directories[index] / "checkpoint"
            written = archives.written_at(folder / "state.json")
            if written and written != self.versions.get(f"{index}-written"):
                yield from self._send(index, "checkpoint", folder)
                self.versions[f"{index}-written"] = archives.written_at(folder / "state.json")

    def _send(self, index: int, what: str, folder: Path) -> Iterator[Item]:
        name = f"{index}-{what}"
        version = self.versions[name] = self.versions.get(name, -1) + 1
        back = {place: path for path, place in self.places.items()}
        skipped = ("checkpoint", "checkpoint.old") if what == "final" else ()
        for offset, piece, last in archives.packed(folder, back, skipped):
            yield "file", (name, version, offset, piece, last)


def _check_versions(wanted: Mapping[str, str]) -> None:
    from cdka import __version__
    from cdka.errors import CdkaError

    if wanted["cdka"] != __version__:
        raise CdkaError(
            f"a node must have the version that submits: got cdka-studio {__version__} on {socket.gethostname()} for "
            f"{wanted['cdka']}. Run there: pip install cdka-studio[ray]=={wanted['cdka']}"
        )


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Let what this process prints go to the run's log while the block runs."""
    sys.stdout.flush(), sys.stderr.flush()
    kept, file = (os.dup(1), os.dup(2)), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1), os.dup2(file, 2)
    try:
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        for descriptor in (*kept, file):
            os.close(descriptor)


@ray.remote(num_cpus=0, max_retries=0)
def versions() -> dict[str, str]:
    """The versions on the node that this runs on."""
    from importlib.metadata import PackageNotFoundError, version

    from cdka import __version__

    found = {"cdka": __version__, "python": ".".join(map(str, sys.version_info[:3])), "host": socket.gethostname()}
    for name in ("torch", "ray"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
