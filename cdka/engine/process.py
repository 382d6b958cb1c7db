"""Identity of a process: pid, start time and boot, none of which is enough alone."""

from __future__ import annotations

import os
import signal
import sys
from functools import lru_cache
from pathlib import Path

import psutil

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
