"""The engine of this machine, as its users see it: ensure that the queue moves, keep it warm, wait for runs.

The work is done by detached processes (``dispatcher.py``), so that it survives the program that asked for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from cdka.childproc import python_environment
from cdka.engine import process
from cdka.engine.contract import engine_of
from cdka.engine.failures import ORPHANED
from cdka.engine.process import LOCK, dispatcher_pid, engine_dir, modified_at
from cdka.engine.slots import JobSpec, Slot
from cdka.errors import CdkaError
from cdka.runs.job_queue import OWNED, LiveJob, anything_to_do, conclude, halving_undecided, live_jobs
from cdka.runs.run import Run
from cdka.runs.spec import LOCAL
from cdka.runs.states import LIVE, WAITING, RunState
from cdka.runs.store import Store

DISPATCHER = (sys.executable, "-m", "cdka.engine.dispatcher")
CHECK_DISPATCHER_EVERY_S = 2.0
_MAX_LOG_BYTES = 1_000_000
UNATTENDED_S = 5.0
"""Seconds without a dispatcher after which that is told: its forkserver, or a worker, starts another one meanwhile."""
CONFIRM_S = 3.0
"""Seconds of looking for a sign of life before a dispatcher that seems to hang is killed."""
_started: list[subprocess.Popen] = []


def heartbeat_of(job_spec: JobSpec) -> float | None:
    """The last sign of life of a worker, Unix seconds; None for one that has not begun, has ended, or gives none."""
    return modified_at(job_spec.heartbeat_path)


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
    pid, silent_s = dispatcher_pid(store.home), _silent_s(modified_at(store.home / LOCK))
    if pid is None and silent_s > UNATTENDED_S:
        found.append(f"nothing moved the queue ({waiting} runs wait, {at_work} are at work): it is started again.")
    elif pid is not None and silent_s > process.dispatcher_limit_s(store.home):
        found.append(f"the dispatcher (process {pid}) has given no sign of life for {silent_s:.0f} s: it is replaced.")
    found += _troubles_of_clusters(store)
    for live in live_jobs(store.database):
        if engine_of(live.job.slot) != LOCAL:
            continue
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


def _troubles_of_clusters(store: Store) -> list[str]:
    """A line for each cluster that runs wait for, or are at work on, and that does not answer."""
    found = []
    for path in sorted((store.home / "engine").glob("cluster-*.json")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        concerned = store.count(status=WAITING, settings={"engine": state["address"]})
        if concerned and state["error"]:
            found.append(f"{state['error']} {concerned} runs wait, or go on there unseen; it is tried again.")
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

    Call it when somebody is about to ask. It is kept for ten minutes after the last call or run.
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
    """Start a dispatcher unless one is at work or being started; True if one was started.

    The lock is taken for it here and now: however long it takes to import, nobody starts a second one meanwhile.
    """
    pid = dispatcher_pid(home)
    if pid is not None and not _ended_hanging(home, pid):
        return False
    lock = process.take_lock(home)
    if lock is None:
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
                env=python_environment() | {process.LOCK_VARIABLE: str(lock)},
                pass_fds=[lock],
            )
        process.write_lock(lock, started.pid)
    except OSError as error:
        raise CdkaError(f"the engine could not be started: {error.strerror}. What was queued stays queued.") from None
    finally:
        os.close(lock)  # the dispatcher has it by now
    _started.append(started)
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
    if pid <= 1 or _silent_s(modified_at(home / LOCK)) <= process.dispatcher_limit_s(home):
        return False
    watch, deadline = process.DispatcherWatch(home), time.monotonic() + CONFIRM_S
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
    _started[:] = [started for started in _started if started.poll() is None]


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
            at_work = any(run.status == RunState.QUEUED or run.status.is_live() for run in runs)
            if not at_work and not halving_undecided(store.database, run_ids):
                return runs
        time.sleep(every_s)
