"""Measurements of alignment: start one, poll its status, load its record. Free of torch.

A measurement runs in a process of its own (``cdka.align.measure``) and writes into the home folder; a second request
for the same thing costs nothing.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from cdka import childproc
from cdka.align.record import AlignRecord, log_file, record_file, status_file, write_status
from cdka.align.request import AlignRequest
from cdka.errors import CdkaError

MAX_WAIT_S = 3600.0


@dataclass(frozen=True)
class Status:
    """A measurement is ``absent``, ``running`` (``share`` of it done), ``done``, or ``failed`` (for a ``cause``)."""

    state: str
    share: float = 0.0
    phase: str = ""
    cause: str = ""
    elapsed_s: float = 0.0


def load(request: AlignRequest) -> AlignRecord | None:
    """The record of a finished measurement, else None. ``request`` must have its grid (``with_grid``)."""
    file = record_file(request)
    return AlignRecord.read(file) if file.is_file() else None


def status(request: AlignRequest) -> Status:
    """The state of the measurement; a process that is gone without a result counts as failed."""
    if record_file(request).is_file():
        return Status("done", 1.0)
    try:
        written = json.loads(status_file(request).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Status("absent")
    if written.get("cause"):
        return Status("failed", cause=written["cause"])
    if not _is_alive(written.get("pid"), written.get("started")):
        return Status("failed", cause="the measuring process ended without a result.")
    elapsed_s = max(0.0, time.time() - float(written["started"]))
    return Status("running", written.get("share", 0.0), written.get("phase", ""), elapsed_s=elapsed_s)


def cancel(request: AlignRequest) -> None:
    """End a measurement that is running; nothing of it is kept."""
    if status(request).state != "running":
        return
    try:
        written = json.loads(status_file(request).read_text(encoding="utf-8"))
        psutil.Process(int(written["pid"])).terminate()
    except (OSError, ValueError, KeyError, psutil.Error):
        pass  # it has ended meanwhile
    status_file(request).unlink(missing_ok=True)


def start(request: AlignRequest) -> None:
    """Start the measurement in a detached process, unless it is done or running. Returns at once."""
    if status(request).state in ("done", "running"):
        return
    status_file(request).unlink(missing_ok=True)
    child = childproc.start_detached(
        "cdka.align.measure:measure_request", {"request": request.to_dict()}, log=log_file(request)
    )
    _children.append(child)
    if not status_file(request).exists():  # the process may have written its own already
        write_status(request, {"pid": child.pid, "started": _start_time(child.pid), "phase": "starting", "share": 0.0})


def align(request: AlignRequest, on_progress: Callable[[Status], None] | None = None) -> AlignRecord:
    """The record of the measurement, once it is done; starts it if need be. Raises CdkaError where it fails."""
    request = request.with_grid()
    start(request)
    deadline = time.monotonic() + MAX_WAIT_S
    while time.monotonic() < deadline:
        now = status(request)
        if now.state == "done":
            return AlignRecord.read(record_file(request))
        if now.state in ("failed", "absent"):
            status_file(request).unlink(missing_ok=True)  # asking again tries again
            raise CdkaError(now.cause or "the measurement was removed while it ran. Start it again.")
        if on_progress:
            on_progress(now)
        time.sleep(0.1)
    raise CdkaError(f"the measurement took longer than {MAX_WAIT_S:g} s. Use fewer batches or a smaller grid.")


_children: list[subprocess.Popen] = []
"""Processes started by this one, to be reaped."""


def _start_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _is_alive(pid: int | None, started: float | None) -> bool:
    _children[:] = [child for child in _children if child.poll() is None]
    return pid is not None and started is not None and _start_time(pid) == started
