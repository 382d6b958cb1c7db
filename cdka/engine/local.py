"""The engine of this machine, as its users see it: ensure that the queue moves, keep it warm, wait for runs.

The work is done by detached processes (``dispatcher.py``), so that it survives the program that asked for it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cdka.childproc import python_environment
from cdka.engine import process
from cdka.engine.failures import ORPHANED
from cdka.engine.slots import Slot
from cdka.engine.worker import JobSpec
from cdka.errors import CdkaError
from cdka.runs.job_queue import OWNED, LiveJob, anything_to_do, conclude, live_jobs
from cdka.runs.run import Run
from cdka.runs.states import LIVE, RunState
from cdka.runs.store import Store

LOCK = Path("engine", "dispatcher.lock")
"""The lock file of a home: held by its dispatcher, whose process id is in it, and touched as its sign of life."""
DISPATCHER = (sys.executable, "-m", "cdka.engine.dispatcher")
CHECK_DISPATCHER_EVERY_S = 2.0
_MAX_LOG_BYTES = 1_000_000
START_LIMIT_S = 5.0
"""Seconds that a newly started dispatcher has to take the lock before another one is started."""
CONFIRM_S = 3.0
"""Seconds of looking for a sign of life before a dispatcher that seems to hang is killed."""
_started: list[tuple[Path, float, subprocess.Popen]] = []


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


@contextmanager
def dispatcher_lock(home: Path, wait_limit_s: float = 1.0) -> Iterator[bool]:
    """True inside for the one process that holds the lock of the home, False for every other."""
    lock = os.open(engine_dir(home) / LOCK.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_limit_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.02)  # somebody may only be looking whether the lock is held
        with suppress(OSError):  # in place, which needs no room on a full disk
            os.pwrite(lock, f"{os.getpid():<19}\n".encode(), 0)
        yield True
    finally:
        os.close(lock)


def dispatcher_pid(home: Path) -> int | None:
    """The process that moves the queue of this home; None where there is none, 0 where it could not write its id."""
    try:
        lock = os.open(home / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int((os.read(lock, 20).split() or [b"0"])[0])
    finally:
        os.close(lock)
    return None


def beat(home: Path) -> None:
    """The dispatcher's sign of life: the time of its lock file. Costs a few microseconds."""
    with suppress(OSError):  # the home is gone
        os.utime(home / LOCK)


class DispatcherWatch:
    """Notices a dispatcher that holds the lock of the home and gives no sign of life.

    What counts is that the sign changes, as seen by this process's own clock.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK
        self._last, self._changed_at = 0.0, time.monotonic()

    def hangs(self, limit_s: float | None = None) -> bool:
        """True where nothing has changed for ``limit_s`` (default: ``DISPATCHER_LIMIT_S``) of looking."""
        now, last = time.monotonic(), _modified_at(self._path)
        if last is None or last != self._last:
            self._last, self._changed_at = last or 0.0, now
        return now - self._changed_at > (process.DISPATCHER_LIMIT_S if limit_s is None else limit_s)


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def heartbeat_of(job_spec: JobSpec) -> float | None:
    """The last sign of life of a worker, Unix seconds; None for one that has not begun, has ended, or gives none."""
    return _modified_at(job_spec.heartbeat_path)


def _silent_s(sign: float | None) -> float:
    return 0.0 if sign is None else time.time() - sign


def troubles(store: Store) -> list[str]:
    """One line for each thing that keeps the runs of this home from going on; what mends it by itself is named.

    Call it before ``ensure_dispatcher``, which mends what it can.
    """
    found = []
    unfinished = store.counts()
    waiting = unfinished.get(RunState.QUEUED, 0)
    at_work = sum(unfinished.get(state, 0) for state in LIVE)
    if not anything_to_do(store.database):
        return []
    pid, silent_s = dispatcher_pid(store.home), _silent_s(_modified_at(store.home / LOCK))
    if pid is None and silent_s > START_LIMIT_S:
        found.append(f"nothing moved the queue ({waiting} runs wait, {at_work} are at work): it is started again.")
    elif pid is not None and silent_s > process.DISPATCHER_LIMIT_S:
        found.append(f"the dispatcher (process {pid}) has given no sign of life for {silent_s:.0f} s: it is replaced.")
    for live in live_jobs(store.database):
        names = ", ".join(run_id for run_id, _ in live.job.runs)
        job_spec = JobSpec(str(store.home), live.job.runs, Slot(live.job.slot, None, 1))
        silent_s = _silent_s(heartbeat_of(job_spec))
        waits_s = 0.0 if live.identity else _silent_s(live.started_at)
        if silent_s > process.WAKE_WORKER_S:
            found.append(
                f"{names} has given no sign of life for {silent_s:.0f} s: its process is woken, and ended if that does "
                f"not help within {process.END_WORKER_S / 60:.0f} minutes."
            )
        elif waits_s > process.FORKSERVER_LIMIT_S:
            found.append(f"{names} has waited for its process for {waits_s:.0f} s: it will be started anew.")
    return found


def ensure_dispatcher(store: Store, *, command: Sequence[str] | None = None) -> bool:
    """Start a dispatcher if there is anything to do and none is at work; True if one was started.

    One that hangs is replaced. Costs about a millisecond where nothing needs to be done: call it after every submit,
    and whenever you look.
    """
    _reap()
    conclude_orphans(store, live_jobs(store.database))
    return anything_to_do(store.database) and start_dispatcher(store.home, command)


def conclude_orphans(store: Store, jobs: Iterable[LiveJob]) -> None:
    """Those of ``jobs`` whose own process (a script, a notebook) is gone without a report are lost."""
    for entry in jobs:
        if entry.job.slot in OWNED and (entry.identity is None or not process.is_alive(entry.identity)):
            conclude(store.database, entry.job.runs, RunState.LOST, ORPHANED)


def warm(store: Store, *, command: Sequence[str] | None = None) -> bool:
    """Have everything imported before the first run is asked for, so that it starts in a fraction of a second.

    Call it when somebody is about to ask. It is kept for a quarter of an hour after the last call or run.
    """
    _reap()
    (engine_dir(store.home) / "warm-requested").touch()
    return start_dispatcher(store.home, command)


def end_if_idle(store: Store) -> bool:
    """End the dispatcher with its warm processes where nothing is queued or at work; True if one was ended.

    Runs that are queued or at work keep theirs: they go on without the program that asked for them.
    """
    pid = dispatcher_pid(store.home)
    if pid is None or anything_to_do(store.database):
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def last_warm_request(home: Path) -> float:
    """The time, on this process's monotonic clock, when ``warm`` was last called; 0 if never."""
    try:
        age = time.time() - (home / "engine" / "warm-requested").stat().st_mtime
    except OSError:
        return 0.0
    return time.monotonic() - max(0.0, age)


def start_dispatcher(home: Path, command: Sequence[str] | None = None) -> bool:
    """Start a dispatcher unless one is at work; True if one was started."""
    now = time.monotonic()
    if any(known == home and now - since < START_LIMIT_S for known, since, _ in _started):
        return False
    pid = dispatcher_pid(home)
    if pid is not None and not _ended_hanging(home, pid):
        return False
    try:
        with _log(home) as file:
            started = subprocess.Popen(
                [*(command or DISPATCHER), str(home)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=home,
                env=python_environment(),
            )
    except OSError as error:
        raise CdkaError(f"the engine could not be started: {error.strerror}. What was queued stays queued.") from None
    _started.append((home, now, started))
    return True


def _log(home: Path) -> IO[bytes]:
    """The file that the dispatcher prints to; one that takes nothing where the disk is full."""
    path = engine_dir(home) / "dispatcher.log"
    try:
        return path.open("wb" if not path.exists() or path.stat().st_size > _MAX_LOG_BYTES else "ab")
    except OSError:
        return open(os.devnull, "wb")


def _ended_hanging(home: Path, pid: int) -> bool:
    """True where the dispatcher has hung for long, in which case it is killed: the next one carries on where it was."""
    if pid <= 1 or _silent_s(_modified_at(home / LOCK)) <= process.DISPATCHER_LIMIT_S:
        return False
    watch, deadline = DispatcherWatch(home), time.monotonic() + CONFIRM_S
    watch.hangs()
    while time.monotonic() < deadline:  # somebody may have set the clock, or the machine has just woken up
        time.sleep(0.1)
    if not watch.hangs(CONFIRM_S / 2) or dispatcher_pid(home) != pid:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while dispatcher_pid(home) == pid and time.monotonic() < deadline + CONFIRM_S:
        time.sleep(0.02)
    return True


def _reap() -> None:
    """Collect dispatchers of ours that have ended, so that none stays as a zombie of a long-lived Studio."""
    _started[:] = [entry for entry in _started if entry[2].poll() is None]


def wait(
    store: Store,
    run_ids: Iterable[str],
    on_change: Callable[[list[Run]], None] | None = None,
    *,
    command: Sequence[str] | None = None,
    every_s: float = 0.1,
) -> list[Run]:
    """The runs once all have finished, in the order of ``run_ids``; ``on_change`` is called with them as they go."""
    run_ids = list(run_ids)
    dispatcher_checked_at, version = 0.0, None
    while True:
        now = time.monotonic()
        if now - dispatcher_checked_at >= CHECK_DISPATCHER_EVERY_S:
            dispatcher_checked_at = now
            ensure_dispatcher(store, command=command)
        changes = store.database.changes()
        if changes != version:
            version = changes
            found = {run.run_id: run for run in store.runs(ids=run_ids)}
            runs = [found[run_id] for run_id in run_ids if run_id in found]
            if on_change is not None:
                on_change(runs)
            if not any(run.status == RunState.QUEUED or run.status.is_live() for run in runs):
                return runs
        time.sleep(every_s)
