"""Run a program that a model wrote, in a process of its own with little room to do harm. Free of torch.

Each program gets a fresh folder, an empty environment, no standard input, and limits on processor time, wall time,
memory and processes (each and all together), file sizes and files open. On Linux, where the kernel lets an ordinary
user make namespaces, it sees no file, socket or process of this machine but what Python needs, read only, and its disk
is a piece of memory; Landlock and a filter of system calls hold besides, and alone where there are no namespaces.
``protections()`` tries out what holds here, and ``check_protections`` refuses a machine on which nothing does. It is a
guard against accidents and cheats, not against an attacker who knows a hole in the kernel: hence the explicit consent.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from cdka.errors import CdkaError

PASSED, FAILED, TIMEOUT = "passed", "failed", "timed out"
_ENDED_BY_PROCESSOR_TIME = (-signal.SIGXCPU, 128 + signal.SIGXCPU)
WATCH_S = 0.1
"""Seconds between two looks at what a program uses."""
_CHILD = Path(__file__).with_name("sandbox_child.py")


@dataclass(frozen=True)
class Limits:
    """Limits of one program: seconds of processor (each process) and of wall time, bytes of memory (each process, and
    all together), of each file written and of all, and processes at a time.
    """

    cpu_s: int = 5
    wall_s: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20
    disk_bytes: int = 16 << 20
    processes: int = 32


@dataclass(frozen=True)
class Verdict:
    """The end of a program: ``passed``, ``failed`` or ``timed out``, and its last line of output."""

    outcome: str
    detail: str


def run_program(source: str, limits: Limits | None = None) -> Verdict:
    """Run a Python program to its last line, or to the end of its time; never raises for what the program does.

    It has passed when its last line was reached: a program that leaves early, even with exit code 0, has not. That is
    reported over a pipe, with a secret that the program cannot reach.
    """
    limits = limits or Limits()
    secret = secrets.token_hex(24)
    with tempfile.TemporaryDirectory(prefix="cdka-sandbox-") as folder, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-u", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=folder,
            start_new_session=True,
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        asked = {"source": source, "folder": folder, "secret": secret, **vars(limits)}
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.close()
        try:
            code, excess = _watch(process, folder, limits)
        finally:
            _end_group(process)
        os.set_blocking(process.stdout.fileno(), False)  # somebody who left the session may hold the other end
        reported = process.stdout.read() or b""
        process.stdout.close()
        output.seek(max(0, output.seek(0, os.SEEK_END) - 2000))
        printed = output.read().decode("utf-8", "replace").strip()
    if excess:
        return Verdict(FAILED, excess)
    if code is None or code in _ENDED_BY_PROCESSOR_TIME:
        return Verdict(TIMEOUT, f"more than {limits.wall_s:g} s" if code is None else f"more than {limits.cpu_s} s")
    if code == 0 and secrets.compare_digest(reported, secret.encode()):
        return Verdict(PASSED, "")
    return Verdict(FAILED, printed.splitlines()[-1][:200] if printed else "it ended before its last line")


def _watch(process: subprocess.Popen, folder: str, limits: Limits) -> tuple[int | None, str]:
    """(exit code, what there was too much of) of a program; the code is None where its time was up or it was ended."""
    deadline = time.monotonic() + limits.wall_s
    while True:
        try:
            return process.wait(max(0.0, min(WATCH_S, deadline - time.monotonic()))), ""
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                return None, ""
        number, memory = _used(process.pid)
        if memory > limits.memory_bytes:
            return None, f"more than {limits.memory_bytes >> 20} MB of memory in all"
        if number > limits.processes:
            return None, f"more than {limits.processes} processes"
        if _size(folder) > limits.disk_bytes:
            return None, f"more than {limits.disk_bytes >> 20} MB of files in all"


def _used(pid: int) -> tuple[int, int]:
    """(number, resident bytes) of the processes that a program runs in, the two that wait for it left out."""
    number, memory = -2, 0
    with suppress(psutil.Error):
        top = psutil.Process(pid)
        for one in [top, *top.children(recursive=True)]:
            with suppress(psutil.Error):
                memory += one.memory_info().rss
                number += 1
    return number, memory


def _size(folder: str) -> int:
    """The bytes below a folder; files that vanish meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def run_programs(sources: Sequence[str], limits: Limits | None = None, *, workers: int | None = None) -> list[Verdict]:
    """The verdict on each program, in order; ``workers`` of them run at a time (default: half the processors)."""
    with ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 2) // 2)) as pool:
        return list(pool.map(lambda source: run_program(source, limits), sources))


def _end_group(process: subprocess.Popen) -> None:
    """Whatever the program has started ends with it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


_PROBE = """
import os, socket, sys
def refused(act):
    try:
        act()
    except (OSError, RuntimeError):
        return True
    return False
outside = {outside!r}
found = []
if refused(lambda: socket.create_connection(("127.0.0.1", {port}), timeout=2).close()):
    found.append("network")
if all(map(refused, (
    lambda: open(outside, "w").close(), lambda: os.truncate(outside, 0), lambda: os.chmod(outside, 0o777),
    lambda: os.utime(outside), lambda: open(outside).read(), lambda: os.unlink(outside),
))):
    found.append("files")
if os.getppid() in (0, 1):
    found.append("processes")
print(" ".join(found) or "none")
sys.exit(3)
"""


@lru_cache(maxsize=1)
def protections() -> tuple[str, ...]:
    """Things out of a program's reach on this machine, tried out: some of "network", "files", "processes"."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
        outside = Path(folder) / "mark"
        outside.write_text("x")
        outside.chmod(0o666)
        reported = run_program(_PROBE.format(port=server.getsockname()[1], outside=str(outside))).detail.split()
    return tuple(word for word in reported if word in ("network", "files", "processes"))


def check_protections(forced: bool = False) -> tuple[str, ...]:
    """``protections()``; raises CdkaError where the files of this machine are within a program's reach.

    ``forced`` takes the risk.
    """
    found = protections()
    if "files" not in found and not forced:
        raise CdkaError(
            "programs that a model writes are run only where their files can be fenced in: this system offers neither "
            f"namespaces nor Landlock (out of reach here: {', '.join(found) or 'nothing'}). Use Linux 5.13 or later, a "
            "machine of its own, or take the risk: --task-option allow_code_execution=unprotected"
        )
    return found
