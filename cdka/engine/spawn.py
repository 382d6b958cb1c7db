"""Starts workers: forked by a forkserver where possible, cold otherwise; each detached, in a session of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cdka.childproc import python_environment
from cdka.engine import slots
from cdka.engine.process import (
    FORKSERVER_LIMIT_S,
    HEARTBEAT_S,
    Identity,
    boot_id,
    is_alive,
    process_start,
    reap_group,
    signal_group,
)
from cdka.engine.slots import JobSpec

WORKER = (sys.executable, "-m", "cdka.engine.worker")
FORKSERVER = (sys.executable, "-m", "cdka.engine.forkserver")
FORKSERVER_ENVIRONMENT = {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # "is there a GPU?" is answered without touching it
    "OMP_NUM_THREADS": "1",  # no thread pools that a fork would break; each worker sets its own number
    "TOKENIZERS_PARALLELISM": "false",
}
PRELOAD_S = 120.0
"""A forkserver that is not ready by then is given up: imports take 4 to 10 s."""
MAX_FAILURES = 2
SHUTDOWN, PING, PONG = {"shutdown": True}, {"ping": True}, {"pong": True}
"""The message that ends a forkserver which is no longer needed; a question that it answers while it works."""


class WorkerProcess(Protocol):
    """A worker process as its dispatcher sees it."""

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its group's; None while it is not known."""

    def ended(self) -> bool:
        """True once the process is gone."""

    @property
    def exit_status(self) -> int | None:
        """The exit code (negative: ended by that signal); None where nobody saw it."""


class ColdWorker:
    """A worker that was started from nothing."""

    def __init__(self, job_spec: JobSpec, command: Sequence[str]) -> None:
        log = job_spec.open_log()
        try:
            self._process = subprocess.Popen(
                [*command, job_spec.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=python_environment() | slots.environment(job_spec.slot),
                cwd=job_spec.home,
            )
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_status(self) -> int | None:
        return self._process.returncode


class AdoptedWorker:
    """A worker started by an earlier dispatcher, or by a forkserver that has died: known by its identity only."""

    exit_status = None

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.pid = identity[0]

    def ended(self) -> bool:
        if is_alive(self._identity):
            return False
        reap_group(self.pid)
        return True


class ForkedWorker:
    """A worker forked by a forkserver, which reports its exit code. Without the forkserver its identity is watched."""

    def __init__(self, forkserver: Forkserver) -> None:
        self._forkserver = forkserver
        self._adopted: AdoptedWorker | None = None
        self._over = False
        self.exit_status: int | None = None

    @property
    def pid(self) -> int | None:
        return self._adopted.pid if self._adopted else None

    def receive(self, message: dict) -> None:
        """Take a message of the forkserver: the pid of the worker, or its exit code."""
        if "pid" in message:
            start = process_start(message["pid"])
            self._adopted = AdoptedWorker((message["pid"], start or "", boot_id()))
        else:
            self._over, self.exit_status = True, message["exit"]

    def ended(self) -> bool:
        if self._over:
            return True
        if self._forkserver.state != "dead":
            return False
        return self._adopted is None or self._adopted.ended()


class Forkserver:
    """One forkserver process; ``state`` is "loading", "ready" or "dead"."""

    def __init__(self, home: Path, command: Sequence[str]) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=home,
                env=python_environment() | FORKSERVER_ENVIRONMENT,
            )
        self._channel.setblocking(False)
        self._received = b""
        self._numbers = itertools.count()
        self._children: dict[int, ForkedWorker] = {}
        self._started_at = self._pinged_at = time.monotonic()
        self._unanswered_since: float | None = None
        self.state, self.has_forked = "loading", False
        self.pid = self._process.pid

    def start(self, job_spec: JobSpec) -> ForkedWorker:
        """Ask for a worker. Should the forkserver be dead already, the worker simply turns out to be so."""
        number, child = next(self._numbers), ForkedWorker(self)
        self._children[number] = child
        self._send({"number": number, "job_spec": job_spec.to_json()})
        return child

    def _send(self, message: dict) -> None:
        """Ask for something that is answered: a forkserver that answers nothing for long is dead in effect."""
        try:
            self._channel.setblocking(True)
            self._channel.sendall(json.dumps(message).encode() + b"\n")
            self._channel.setblocking(False)
        except OSError:
            self._mark_dead()
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()

    def receive_messages(self) -> None:
        """Read the messages that the forkserver has sent since the last call; end one that does not answer."""
        if self.state == "dead":
            return
        self._receive()
        now = time.monotonic()
        if self.state == "dead" or now - self._pinged_at < HEARTBEAT_S:
            return
        self._pinged_at = now
        if self.state == "loading":
            signal_group(self.pid, signal.SIGCONT)  # it cannot answer yet; stopped, it would load for ever
            if now - self._started_at > PRELOAD_S:
                self._mark_dead()
        elif self._unanswered_since is None:
            self._send(PING)
        elif now - self._unanswered_since > FORKSERVER_LIMIT_S:
            self._mark_dead()

    def _receive(self) -> None:
        try:
            while part := self._channel.recv(65536):
                *lines, self._received = (self._received + part).split(b"\n")
                self._unanswered_since = None
                for line in lines:
                    message = json.loads(line)
                    if "ready" in message:
                        self.state = "ready"
                    elif message != PONG:
                        self.has_forked = True
                        self._children[message["number"]].receive(message)
            self._mark_dead()
        except BlockingIOError:
            return
        except OSError:
            self._mark_dead()

    def _mark_dead(self) -> None:
        self.state = "dead"
        self._channel.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Let it go: it leaves, and its workers go on. One that is still loading has none: it is ended."""
        if self.state == "loading":
            self._mark_dead()
        elif self.state != "dead":
            self.state = "dead"
            with suppress(OSError):
                self._channel.sendall(json.dumps(SHUTDOWN).encode() + b"\n")
            self._channel.close()


class WorkerStarter:
    """Starts workers, keeping one forkserver ready; cold after ``MAX_FAILURES`` dead forkservers in a row."""

    def __init__(
        self, home: Path, *, worker: Sequence[str] = WORKER, forkserver: Sequence[str] | None = FORKSERVER
    ) -> None:
        self._home, self._worker, self._command = home, worker, forkserver
        self._forkserver: Forkserver | None = None
        self._failures = 0

    def ready(self) -> bool:
        """True when a worker can be started without waiting for imports that are under way. Call it often."""
        if self._command is None or self._failures >= MAX_FAILURES:
            return True
        if self._forkserver is None:
            self._forkserver = Forkserver(self._home, self._command)
        self._forkserver.receive_messages()
        if self._forkserver.state == "dead":
            self._failures = 1 if self._forkserver.has_forked else self._failures + 1
            self._forkserver = None
            return self.ready()
        return self._forkserver.state == "ready"

    def start(self, job_spec: JobSpec) -> WorkerProcess:
        """Start a worker for ``job_spec``; raises OSError where its log cannot be written or no process started."""
        os.close(job_spec.open_log())
        if self._forkserver is not None and self._forkserver.state == "ready":
            return self._forkserver.start(job_spec)
        return ColdWorker(job_spec, self._worker)

    def close(self) -> None:
        """Let the forkserver go."""
        if self._forkserver is not None:
            self._forkserver.close()
