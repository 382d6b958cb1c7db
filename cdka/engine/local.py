"""The engine of this machine, as its users see it: ensure that the queue moves, keep it warm, wait for runs.

The work is done by detached processes (``dispatcher.py``), so that it survives the program that asked for it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cdka.childproc import python_environment
from cdka.errors import CdkaError
from cdka.runs.job_queue import anything_to_do
from cdka.runs.run import Run
from cdka.runs.states import RunState
from cdka.runs.store import Store

DISPATCHER = (sys.executable, "-m", "cdka.engine.dispatcher")
CHECK_DISPATCHER_EVERY_S = 2.0
_MAX_LOG_BYTES = 1_000_000
START_LIMIT_S = 5.0
"""Seconds that a newly started dispatcher has to take the lock before another one is started."""
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
    with open(engine_dir(home) / "dispatcher.lock", "a+") as file:
        deadline = time.monotonic() + wait_limit_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.02)  # somebody may only be looking whether the lock is held
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield True


def dispatcher_pid(home: Path) -> int | None:
    """The process that moves the queue of this home; None where there is none."""
    with open(engine_dir(home) / "dispatcher.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            return int(file.read().strip() or 0)
        return None


def ensure_dispatcher(store: Store, *, command: Sequence[str] | None = None) -> bool:
    """Start a dispatcher if there is anything to do and none is at work; True if one was started.

    Costs about a millisecond where nothing needs to be done: call it after every submit, and whenever you look.
    """
    _reap()
    return anything_to_do(store.database) and _start(store, command)


def warm(store: Store, *, command: Sequence[str] | None = None) -> bool:
    """Have everything imported before the first run is asked for, so that it starts in a fraction of a second.

    Call it when somebody is about to ask. It is kept for a quarter of an hour after the last call or run.
    """
    _reap()
    (engine_dir(store.home) / "warm-requested").touch()
    return _start(store, command)


def last_warm_request(home: Path) -> float:
    """The time, on this process's monotonic clock, when ``warm`` was last called; 0 if never."""
    try:
        age = time.time() - (home / "engine" / "warm-requested").stat().st_mtime
    except OSError:
        return 0.0
    return time.monotonic() - max(0.0, age)


def _start(store: Store, command: Sequence[str] | None) -> bool:
    now = time.monotonic()
    if any(home == store.home and now - since < START_LIMIT_S for home, since, _ in _started):
        return False
    if dispatcher_pid(store.home) is not None:
        return False
    log = engine_dir(store.home) / "dispatcher.log"
    new = not log.exists() or log.stat().st_size > _MAX_LOG_BYTES
    try:
        with log.open("wb" if new else "ab") as file:
            process = subprocess.Popen(
                [*(command or DISPATCHER), str(store.home)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=store.home,
                env=python_environment(),
            )
    except OSError as error:
        raise CdkaError(f"the engine could not be started: {error.strerror}. What was queued stays queued.") from None
    _started.append((store.home, now, process))
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
