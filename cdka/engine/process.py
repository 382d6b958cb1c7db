"""Identity of a process (pid, start time and boot), and of the code that it has imported."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import psutil

HEARTBEAT_S = 1.0
"""Seconds between two signs of life of a dispatcher or a worker."""
DISPATCHER_LIMIT_S, FORKSERVER_LIMIT_S = 30.0, 20.0
"""Seconds without a sign of life after which it is replaced: both hold no state, and the workers go on."""
WAKE_WORKER_S, END_WORKER_S = 60.0, 300.0
"""Seconds without a sign of life after which a worker is woken (it may have been stopped), and ended."""

Identity = tuple[int, str, str]
"""(pid, start of the process, boot of the machine)."""


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The id of this boot of the machine; differs after a restart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return f"boot-{psutil.boot_time():.0f}"


def process_start(pid: int) -> str | None:
    """The start time of the process as text to be compared; None where it is gone or a zombie.

    On Linux this is in clock ticks since boot, straight from the kernel: a time of day would change with the clock.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold spaces and parentheses
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def own_identity() -> Identity:
    """The identity of this process."""
    return os.getpid(), process_start(os.getpid()) or "", boot_id()


def is_alive(identity: Identity) -> bool:
    """True while exactly this process exists (not another one that was given its number since)."""
    pid, start, boot = identity
    return boot == boot_id() and process_start(pid) == start


def works_in(pid: int, folder: Path) -> bool:
    """True where the process has ``folder`` as its working directory, as every process of a home's engine has its home.

    Folders are compared by device and inode: a copy of a home, also at the place of the original, is another folder.
    """
    try:
        cwd = f"/proc/{pid}/cwd" if sys.platform == "linux" else psutil.Process(pid).cwd()
        return os.path.samefile(cwd, folder)
    except (PermissionError, psutil.AccessDenied):  # another user's: nothing more is known of it than its identity
        return True
    except (OSError, psutil.Error):
        return False


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group that ``pid`` leads, if there still is one."""
    try:
        if pid > 1 and pid != os.getpgrp():
            os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def reap_group(pid: int) -> None:
    """Kill what a dead leader left behind in its group (data loader children)."""
    if process_start(pid) is None:  # else the number belongs to another process by now, whose group it then is
        signal_group(pid, signal.SIGKILL)


_PACKAGE = Path(__file__).resolve().parent.parent
_NEVER_IN_A_WORKER = ("__pycache__", "_assets", "bench", "cli", "compare", "sweep")


def _sources(folder: Path) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NEVER_IN_A_WORKER:
                    yield from _sources(Path(entry.path))
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, status.st_mtime_ns, status.st_size


def fingerprint() -> int:
    """A number that changes when the code of workers is edited, or when packages are installed or removed beside torch.

    Costs about a millisecond; torch is located, not imported.
    """
    beside = [part for part in getattr(find_spec("torch"), "submodule_search_locations", None) or ()]
    installed = tuple(
        (entry.name, entry.stat().st_mtime_ns)
        for part in beside
        for entry in os.scandir(Path(part).parent)
        if entry.name.endswith((".dist-info", ".pth"))
    )
    return hash((tuple(sorted(_sources(_PACKAGE))), tuple(sorted(installed))))
