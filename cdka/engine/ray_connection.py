"""The process that holds the connection to one cluster, as the engine sees it: JSON lines to it and from it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cdka.childproc import python_environment

RESTART_S = 2.0
"""Seconds between two tries to reach a cluster."""
SILENT_S, HUNG_S = 10.0, 300.0
"""Seconds without a word from a bridge after which that is told, and after which it is ended: Ray's own calls may wait
for ever where the network is cut. One that reads many gigabytes to send them is silent, too."""


class Connection:
    """One bridge (``ray_bridge.py``) after another: whatever has ended one, the next one follows."""

    def __init__(self, address: str, home: Path, command: Sequence[str]) -> None:
        self.address, self._home, self._command = address, home, command
        self.process: subprocess.Popen[bytes] | None = None
        self.connected = False
        """True from its first message until it ends."""
        self._received = b""
        self._started_at = -RESTART_S
        self._heard_at = 0.0

    def keep(self) -> None:
        """Start a bridge where there is none, at most every ``RESTART_S`` seconds."""
        if self.process is not None or time.monotonic() - self._started_at < RESTART_S:
            return
        self._started_at, self._received, self.connected = time.monotonic(), b"", False
        self.process = subprocess.Popen(
            [*self._command, self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._home,
            env=python_environment(),
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell the bridge, unless there is none: the next one is told all there is to know when it is connected."""
        if self.connected and self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.write(json.dumps(message).encode() + b"\n")
                self.process.stdin.flush()

    def received(self) -> Iterator[dict[str, Any]]:
        """The messages of the bridge since the last call; does not wait."""
        if self.process is None or self.process.stdout is None:
            return
        with suppress(BlockingIOError):
            while part := os.read(self.process.stdout.fileno(), 2**20):
                *lines, self._received = (self._received + part).split(b"\n")
                self._heard_at = time.monotonic()
                for line in lines:
                    message = json.loads(line)
                    self.connected = self.connected or "connected" in message
                    yield message

    def is_silent(self) -> bool:
        """True where a bridge has said nothing for long; one that has said nothing for very long is ended."""
        silent_s = time.monotonic() - max(self._heard_at, self._started_at)
        if self.process is not None and silent_s > HUNG_S:
            self.process.kill()
        return self.process is not None and self.connected and silent_s > SILENT_S

    def lost(self) -> bool:
        """True once for each bridge that has ended; call it after ``received``."""
        if self.process is None or self.process.poll() is None:
            return False
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                with suppress(OSError):
                    end.close()
        self.process, self.connected = None, False
        return True

    def close(self) -> None:
        """Let the bridge end."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
