"""Run a program that a model wrote, in a process of its own with little room to do harm. Free of torch.

Each program gets a fresh folder, an empty environment, no standard input, and limits on processor time, memory, file
sizes, open files, processes and wall time. On Linux it is also cut off from the network and from other processes where
the kernel lets an ordinary user make namespaces, and where the kernel offers Landlock it may write only in its own
folder and read only what Python needs. ``protections()`` tells which of these hold here. It is a guard against
accidents, not against an attacker: hence the explicit consent.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PASSED, FAILED, TIMEOUT = "passed", "failed", "timed out"
_ENDED_BY_PROCESSOR_TIME = (-signal.SIGXCPU, 128 + signal.SIGXCPU)
_CHILD = Path(__file__).with_name("sandbox_child.py")


@dataclass(frozen=True)
class Limits:
    """Limits of one program: seconds of processor and of wall time, bytes of memory and of each file written."""

    cpu_s: int = 5
    wall_s: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """The end of a program: ``passed``, ``failed`` or ``timed out``, and its last line of output."""

    outcome: str
    detail: str


def _command(limits: Limits, folder: str, program: str) -> list[str]:
    settings = [str(limits.cpu_s), str(limits.memory_bytes), str(limits.file_bytes), folder, program]
    return [sys.executable, "-I", "-S", str(_CHILD), *settings]


def run_program(source: str, limits: Limits | None = None) -> Verdict:
    """Run a Python program to its last line, or to the end of its time; never raises for what the program does.

    It has passed when its last line was reached: a program that leaves early, even with exit code 0, has not.
    """
    limits = limits or Limits()
    proof = f"reached the end {secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="cdka-sandbox-") as folder:
        program = Path(folder) / "program.py"
        program.write_text(f"{source}\n\nprint({proof!r})\n", encoding="utf-8", errors="replace")
        with (Path(folder) / "output").open("wb") as output:
            process = subprocess.Popen(
                _command(limits, folder, str(program)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
                env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            )
            try:
                code: int | None = process.wait(limits.wall_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end_group(process)
        said = (Path(folder) / "output").read_bytes()[-2000:].decode("utf-8", "replace").strip()
    detail = said.splitlines()[-1][:200] if said else ""
    if code is None or code in _ENDED_BY_PROCESSOR_TIME:
        return Verdict(TIMEOUT, f"more than {limits.wall_s:g} s" if code is None else f"more than {limits.cpu_s} s")
    if code == 0:
        return Verdict(PASSED, "") if detail == proof else Verdict(FAILED, "it ended before its last line")
    return Verdict(FAILED, detail or f"exit code {code}")


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
found = []
try:
    socket.create_connection(("127.0.0.1", int({port})), timeout=2).close()
except OSError:
    found.append("network")
try:
    open({outside!r}, "w").close()
except OSError:
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
        probe = _PROBE.format(port=server.getsockname()[1], outside=str(Path(folder) / "mark"))
        told = run_program(probe).detail.split()
    return tuple(word for word in told if word in ("network", "files", "processes"))
