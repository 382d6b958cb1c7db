"""Starts workers: warm from a zygote where possible, cold otherwise; either way detached, in a session of their own."""

from __future__ import annotations

import itertools
import json
import os
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
from cdka.engine.process import Identity, boot_id, is_alive, process_start, reap_group
from cdka.engine.worker import Order

WORKER = (sys.executable, "-m", "cdka.engine.worker")
ZYGOTE = (sys.executable, "-m", "cdka.engine.forkserver")
ZYGOTE_ENVIRONMENT = {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # "is there a GPU?" is answered without touching it
    "OMP_NUM_THREADS": "1",  # no thread pools that a fork would break; each worker sets its own number
    "TOKENIZERS_PARALLELISM": "false",
}
PRELOAD_S = 120.0
"""A zygote that is not ready by then is given up: imports take 4 to 10 s."""
MOST_FAILURES = 2
GOODBYE = {"goodbye": True}
"""The message that ends a forkserver which is no longer needed."""


class Child(Protocol):
    """A worker process as its dispatcher sees it."""

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its group's; None while it is not known."""

    def ended(self) -> bool:
        """True once the process is gone."""

    @property
    def exit_status(self) -> int | None:
        """The exit code (negative: ended by that signal); None where nobody saw it."""


class Cold:
    """A worker that was started from nothing."""

    def __init__(self, order: Order, command: Sequence[str]) -> None:
        log = order.open_log()
        try:
            self._process = subprocess.Popen(
                [*command, order.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=python_environment() | slots.environment(order.slot),
                cwd=order.home,
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


class Adopted:
    """A worker started by an earlier dispatcher, or by a zygote that has died: known by its identity only."""

    exit_status = None

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.pid = identity[0]

    def ended(self) -> bool:
        if is_alive(self._identity):
            return False
        reap_group(self.pid)
        return True


class Warm:
    """A worker forked by a zygote, which tells of its end. Without the zygote it is watched from afar."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._adopted: Adopted | None = None
        self._over = False
        self.exit_status: int | None = None

    @property
    def pid(self) -> int | None:
        return self._adopted.pid if self._adopted else None

    def hear(self, message: dict) -> None:
        """Take the zygote's word: the pid of the worker, or its end."""
        if "pid" in message:
            start = process_start(message["pid"])
            self._adopted = Adopted((message["pid"], start or "", boot_id()))
        else:
            self._over, self.exit_status = True, message["exit"]

    def ended(self) -> bool:
        if self._over:
            return True
        if self._zygote.state != "dead":
            return False
        return self._adopted is None or self._adopted.ended()


class Zygote:
    """One zygote process; ``state`` is "loading", "ready" or "dead"."""

    def __init__(self, home: Path, command: Sequence[str]) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=home,
                env=python_environment() | ZYGOTE_ENVIRONMENT,
            )
        self._channel.setblocking(False)
        self._received = b""
        self._numbers = itertools.count()
        self._children: dict[int, Warm] = {}
        self._deadline = time.monotonic() + PRELOAD_S
        self.state, self.has_forked = "loading", False
        self.pid = self._process.pid

    def start(self, order: Order) -> Warm:
        """Ask for a worker. Should the zygote be dead already, the worker simply turns out to be so."""
        number, child = next(self._numbers), Warm(self)
        self._children[number] = child
        line = json.dumps({"number": number, "order": order.to_json()}).encode() + b"\n"
        try:
            self._channel.setblocking(True)
            self._channel.sendall(line)
            self._channel.setblocking(False)
        except OSError:
            self._bury()
        return child

    def listen(self) -> None:
        """Take in what the zygote has said since."""
        if self.state == "dead":
            return
        try:
            while part := self._channel.recv(65536):
                *lines, self._received = (self._received + part).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "ready" in message:
                        self.state = "ready"
                    else:
                        self.has_forked = True
                        self._children[message["number"]].hear(message)
            self._bury()
        except BlockingIOError:
            if self.state == "loading" and time.monotonic() > self._deadline:
                self._bury()
        except OSError:
            self._bury()

    def _bury(self) -> None:
        self.state = "dead"
        self._channel.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Let it go: it leaves, and its workers go on."""
        if self.state != "dead":
            self.state = "dead"
            with suppress(OSError):
                self._channel.sendall(json.dumps(GOODBYE).encode() + b"\n")
            self._channel.close()


class Launcher:
    """Starts workers, keeping one zygote ready. After ``MOST_FAILURES`` dead zygotes in a row it starts them cold."""

    def __init__(self, home: Path, *, worker: Sequence[str] = WORKER, zygote: Sequence[str] | None = ZYGOTE) -> None:
        self._home, self._worker, self._command = home, worker, zygote
        self._zygote: Zygote | None = None
        self._failures = 0

    def ready(self) -> bool:
        """True when a worker can be started without waiting for imports that are under way. Call it often."""
        if self._command is None or self._failures >= MOST_FAILURES:
            return True
        if self._zygote is None:
            self._zygote = Zygote(self._home, self._command)
        self._zygote.listen()
        if self._zygote.state == "dead":
            self._failures = 1 if self._zygote.has_forked else self._failures + 1
            self._zygote = None
            return self.ready()
        return self._zygote.state == "ready"

    def start(self, order: Order) -> Child:
        """Start a worker for ``order``."""
        if self._zygote is not None and self._zygote.state == "ready":
            return self._zygote.start(order)
        return Cold(order, self._worker)

    def close(self) -> None:
        """Let the zygote go."""
        if self._zygote is not None:
            self._zygote.close()
