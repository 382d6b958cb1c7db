"""The task of a Ray cluster that trains one job on a node, and what a node answers about itself.

No code travels: every node has this package installed. What the job finds out goes to the supervisor
(``ray_supervisor.py``) as the items of a stream.
"""

from __future__ import annotations

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

Item = tuple[str, Any]
"""An item that the task yields: ``place``, ``events``, ``file`` or ``judging``, with its content."""


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
