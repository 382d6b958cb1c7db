"""Ask for a measurement, see how far it is, read the result: all that the app and the command line need. Free of torch.

A measurement runs in a process of its own (``python -m cdka.align.worker``) and writes into the home folder; asking for
the same thing again costs nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from cdka.align.record import AlignRecord
from cdka.align.request import AlignRequest
from cdka.errors import CdkaError
from cdka.train.gradients import shelf

LIMIT_S = 3600.0


@dataclass(frozen=True)
class Status:
    """How a measurement stands: ``absent``, ``running`` (with the share done), ``done``, or ``failed`` (and why)."""

    state: str
    share: float = 0.0
    phase: str = ""
    cause: str = ""


def record_file(request: AlignRequest) -> Path:
    """Where the result of this request is, once measured."""
    return shelf() / f"record-{request.key}.json"


def state_file(request: AlignRequest) -> Path:
    """Where the worker tells how far it is."""
    return shelf() / f"state-{request.key}.json"


def load(request: AlignRequest) -> AlignRecord | None:
    """The finished measurement; None where there is none yet. ``request`` must have its grid (``with_grid``)."""
    file = record_file(request)
    return AlignRecord.read(file) if file.is_file() else None


def status(request: AlignRequest) -> Status:
    """How the measurement stands; a worker that is gone without a result counts as failed."""
    if record_file(request).is_file():
        return Status("done", 1.0)
    try:
        told = json.loads(state_file(request).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Status("absent")
    if told.get("cause"):
        return Status("failed", cause=told["cause"])
    if not _alive(told.get("pid"), told.get("started")):
        return Status("failed", cause="the measuring process ended without a result.")
    return Status("running", told.get("share", 0.0), told.get("phase", ""))


def start(request: AlignRequest) -> None:
    """Begin the measurement in a detached process, unless it is done or running. Returns at once."""
    if status(request).state in ("done", "running"):
        return
    state_file(request).unlink(missing_ok=True)
    log = open(shelf() / f"log-{request.key}.txt", "wb")  # noqa: SIM115 (the child keeps it)
    with log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cdka.align.worker", json.dumps(request.to_dict())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(child)
    if not state_file(request).exists():  # a worker that has already spoken knows better
        write_state(request, {"pid": child.pid, "started": _start_time(child.pid), "phase": "starting", "share": 0.0})


def align(request: AlignRequest, on_progress: Callable[[Status], None] | None = None) -> AlignRecord:
    """The measurement, waited for. Raises CdkaError where it fails."""
    request = request.with_grid()
    start(request)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        now = status(request)
        if now.state == "done":
            return load(request)
        if now.state in ("failed", "absent"):
            state_file(request).unlink(missing_ok=True)  # asking again tries again
            raise CdkaError(now.cause or "the measurement was removed while it ran. Start it again.")
        if on_progress:
            on_progress(now)
        time.sleep(0.1)
    raise CdkaError(f"the measurement took longer than {LIMIT_S:g} s. Use fewer batches or a smaller grid.")


def write_state(request: AlignRequest, told: dict) -> None:
    """Tell how far the measurement is, all or nothing."""
    file = state_file(request)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(told), encoding="utf-8")
    temporary.replace(file)


_children: list[subprocess.Popen] = []
"""Workers started by this process, to be reaped."""


def _start_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _alive(pid: int | None, started: float | None) -> bool:
    _children[:] = [child for child in _children if child.poll() is None]
    return pid is not None and started is not None and _start_time(pid) == started
