"""Identity of a process (pid, start time and boot), of the code that it has imported, and of a home's dispatcher.

The dispatcher of a home is the process that holds its lock file, which has the process id and the state of that
process in it, and is touched as its sign of life.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import psutil

from cdka.errors import CdkaError

HEARTBEAT_S = 1.0
"""Seconds between two signs of life of a dispatcher or a worker."""
DISPATCHER_LIMIT_S, FORKSERVER_LIMIT_S = 30.0, 20.0
"""Seconds without a sign of life after which it is replaced: both hold no state, and the workers go on."""
START_LIMIT_S = 120.0
"""The same for a dispatcher that is still importing: a second, or a minute on a machine that is short of everything."""
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


LOCK = Path("engine", "dispatcher.lock")
STARTING, AT_WORK, LEFT = "starting", "at work", "left"
"""The states of the last holder of the lock; one that was killed stays in one of the first two."""
LOCK_VARIABLE = "CDKA_DISPATCHER_LOCK"
"""The environment variable with the descriptor of the lock, which is taken for a dispatcher before it exists."""


def engine_dir(home: Path) -> Path:
    """The folder of the engine's own files (lock, log), for this user only; created if absent."""
    directory = home / "engine"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CdkaError(
            f"the home folder must be writable: got {home} ({error.strerror}). Set CDKA_HOME to a folder you own."
        ) from None
    return directory


def take_lock(home: Path, wait_limit_s: float = 1.0) -> int | None:
    """A descriptor that holds the lock of the home; None where a dispatcher has it, or is being started."""
    lock = os.open(engine_dir(home) / LOCK.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_limit_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if dispatcher_pid(home) is not None or time.monotonic() >= deadline:
                os.close(lock)
                return None
            time.sleep(0.02)  # somebody only looks whether the lock is held
    write_lock(lock, 0, STARTING)
    beat(home)
    return lock


def write_lock(lock: int, pid: int, state: str = "") -> None:
    """Write who holds the lock, in place, which needs no room on a full disk; the state stays where none is given."""
    text = f"{pid:<19}\n" + (f"{state:<9}" if state else "")
    with suppress(OSError):
        os.pwrite(lock, text.encode(), 0)


@contextmanager
def dispatcher_lock(home: Path) -> Iterator[bool]:
    """True inside for the one process that holds the lock of the home, False for every other."""
    lock = _inherited_lock(home)
    lock = take_lock(home) if lock is None else lock
    if lock is None:
        yield False
        return
    try:
        write_lock(lock, os.getpid(), AT_WORK)
        yield True
        write_lock(lock, os.getpid(), LEFT)
    finally:
        os.close(lock)


def _inherited_lock(home: Path) -> int | None:
    """The lock that whoever started this process took for it; None for one that was started by hand."""
    try:
        lock = int(os.environ.pop(LOCK_VARIABLE, ""))
        if not os.path.samestat(os.fstat(lock), os.stat(home / LOCK)):
            return None
        os.set_inheritable(lock, False)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, ValueError):
        return None
    return lock


def _read_lock(home: Path) -> tuple[bool, int, str]:
    """(whether the lock is held, the process id in it, the state in it); 0 and "" where there is none."""
    try:
        lock = os.open(home / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False, 0, ""
    try:
        held = False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
        text = os.read(lock, 40).decode("ascii", "replace")
    finally:
        os.close(lock)
    pid = text[:20].strip()
    return held, int(pid) if pid.isdecimal() else 0, text[20:].strip()


def dispatcher_pid(home: Path) -> int | None:
    """The process that moves the queue of this home; None where there is none, 0 where its id is not known (yet)."""
    held, pid, _ = _read_lock(home)
    return pid if held else None


def dispatcher_was_killed(home: Path) -> bool:
    """True where there is no dispatcher, and the last one did not leave by itself."""
    held, _, state = _read_lock(home)
    return not held and state in (STARTING, AT_WORK)


def dispatcher_limit_s(home: Path) -> float:
    """The seconds without a sign of life after which the dispatcher of this home is replaced."""
    return START_LIMIT_S if _read_lock(home)[2] == STARTING else DISPATCHER_LIMIT_S


def beat(home: Path) -> None:
    """The dispatcher's sign of life: the time of its lock file. Costs a few microseconds."""
    with suppress(OSError):  # the home is gone
        os.utime(home / LOCK)


def modified_at(path: Path) -> float | None:
    """The time of a file as a sign of life, Unix seconds; None where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


class DispatcherWatch:
    """Notices a dispatcher that holds the lock of the home and gives no sign of life.

    What counts is that the sign changes, as seen by this process's own clock.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK
        self._last, self._changed_at = 0.0, time.monotonic()

    def hangs(self, limit_s: float | None = None) -> bool:
        """True where nothing has changed for ``limit_s`` (default: ``DISPATCHER_LIMIT_S``) of looking."""
        now, last = time.monotonic(), modified_at(self._path)
        if last is None or last != self._last:
            self._last, self._changed_at = last or 0.0, now
        return now - self._changed_at > (DISPATCHER_LIMIT_S if limit_s is None else limit_s)


def log_line(message: str) -> None:
    """Print to the dispatcher's log; a full disk takes nothing, and that is no reason to die."""
    with suppress(OSError, ValueError):
        print(message, flush=True)


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
