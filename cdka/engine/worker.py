"""Executes one job, K >= 1 runs, in this process: claim, train, record, end.

``python -m cdka.engine.worker JOB`` is the cold start; the forkserver forks and calls ``execute`` itself.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from cdka.engine import local, process, slots
from cdka.engine.failures import EXIT_UNRECORDED, cause_of
from cdka.engine.process import HEARTBEAT_S, own_identity
from cdka.engine.recorder import Recorder
from cdka.engine.slots import JobSpec, Slot
from cdka.errors import CdkaError
from cdka.machine import cores
from cdka.runs import halving
from cdka.runs.database import StoreBusy, StoreFull
from cdka.runs.events import Evaluated, Event, Memory
from cdka.runs.job_queue import IN_PROCESS, begin, claim
from cdka.runs.resolve import ResolvedRun, resolve_runs
from cdka.runs.run import run_directory
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

Train = Callable[
    [Sequence[ResolvedRun], Sequence[Path], Callable[[int], str | None], Path], Iterator[tuple[int, Event]]
]

_NICENESS, _OOM_SCORE = 5, "500"
_OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")
MAX_REVIVALS = 3
"""A worker that has started this many dispatchers, all killed again, leaves it to whoever looks."""


def load_train() -> Train:
    """The training loop. Imports torch."""
    from cdka.train.loop import train

    return train


def execute(
    job_spec: JobSpec, load: Callable[[], Train] = load_train, *, dispatcher: Sequence[str] | None = None
) -> int:
    """Claim and train the runs of ``job_spec``; returns the exit code of the process.

    Should everything but this process be killed, it starts another dispatcher, by the command ``dispatcher``.
    """
    identity = own_identity()
    try:
        store = Store(job_spec.home)
        claimed = [
            (run_id, attempt) for run_id, attempt in job_spec.runs if claim(store.database, run_id, attempt, identity)
        ]
    except (StoreBusy, StoreFull) as error:  # runs that nobody has claimed go back into the queue
        with suppress(OSError):
            print(error, flush=True)
        return EXIT_UNRECORDED
    if not claimed:
        return 0  # cancelled or given to another worker in the meantime
    with _heartbeat(job_spec, dispatcher):
        code = _train(job_spec, store, claimed, load)
        if code == EXIT_UNRECORDED:  # should nobody live who receives the code: a rename needs no room on a full disk
            with suppress(OSError):
                job_spec.heartbeat_path.rename(job_spec.unrecorded_path)
        return code


def run_in_process(store: Store, spec: RunSpec) -> str:
    """The id of a run, queued and trained in this very process, which imports torch: for debugging, and for Colab."""
    run_id, attempt = begin(store.database, spec, own_identity(), IN_PROCESS)
    execute(JobSpec(str(store.home), ((run_id, attempt),), Slot(IN_PROCESS, None, cores())))
    return run_id


def _train(job_spec: JobSpec, store: Store, claimed: Sequence[tuple[str, int]], load: Callable[[], Train]) -> int:
    specs = [slots.in_process(store.run(run_id).spec, job_spec.slot) for run_id, _ in claimed]
    directories = [run_directory(store.home, run_id) for run_id, _ in claimed]
    stop_at = halving.levels_ahead(store, [run_id for run_id, _ in claimed])
    recorder = Recorder(store, claimed, specs[0].checkpoint_every, stop_at)
    runs: list[ResolvedRun] = []
    try:
        runs = resolve_runs(specs)
        train = load()
        limit_threads(slots.threads_for(job_spec.slot, runs[0].shapes.base_params, alone=job_spec.alone))
        shared = store.home / "judging" / (store.run(claimed[0][0]).sweep_id or claimed[0][0])
        for index, event in train(runs, directories, recorder.stop_requested, shared):
            recorder.add(index, event)
            if isinstance(event, Evaluated):
                recorder.add(index, Memory(peak_bytes=peak_bytes()))
            if not recorder.open_runs:
                break
        recorder.close()
    except Exception as error:
        with suppress(OSError):  # the disk may be full
            traceback.print_exc()
        return 1 if recorder.fail_all(cause_of(error, runs, peak_bytes(), device_type())) else EXIT_UNRECORDED
    if recorder.open_runs:
        recorder.fail_all("the training loop ended without a result; this is a defect, please report it.")
        return 1
    return 0


@contextmanager
def _heartbeat(job_spec: JobSpec, dispatcher: Sequence[str] | None) -> Iterator[None]:
    """Touch the heartbeat's file from a thread while the block runs: a process that hangs, or is stopped, does not.

    The thread also sees that the queue moves once the process that started this one is gone.
    """
    path, over, parent = job_spec.heartbeat_path, threading.Event(), os.getppid()

    def beat() -> None:
        revivals = 0
        while not over.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(path)
            if revivals < MAX_REVIVALS and os.getppid() != parent:
                revivals += _revive_dispatcher(Path(job_spec.home), dispatcher)

    with suppress(OSError):  # no room for the file: then nobody waits for it either
        path.touch(mode=0o600)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _revive_dispatcher(home: Path, command: Sequence[str] | None) -> bool:
    """Start a dispatcher where the last one was killed and its forkserver with it; True if one was started."""
    with suppress(CdkaError, OSError):  # the home is gone
        return process.dispatcher_was_killed(home) and local.start_dispatcher(home, command)
    return False


def die_of_signals() -> None:
    """Let SIGINT and SIGTERM end this process as such, so that its dispatcher sees what ended it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def lower_priority() -> None:
    """Give way to the Studio on the processor, and be the first to end when the system runs out of memory."""
    os.nice(max(0, _NICENESS - os.nice(0)))  # not once more below a dispatcher that a worker started
    with suppress(OSError):
        _OOM_SCORE_FILE.write_text(_OOM_SCORE)


def usual_priority() -> None:
    """In a dispatcher that a worker started: do not be the first to end when the system runs out of memory."""
    with suppress(OSError):
        if _OOM_SCORE_FILE.read_text().strip() == _OOM_SCORE:
            _OOM_SCORE_FILE.write_text("0")


def peak_bytes() -> int:
    """The most memory this process has held: on its GPU if it used one, else resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError, StopIteration):  # unlike ru_maxrss this can be reset, and a parent's is not inherited
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> None:
    """Count the peak from here on, in a process that has trained before."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def device_type() -> str:
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_initialized() else "cpu"


def limit_threads(number: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:  # a forked worker has read OMP_NUM_THREADS long ago, in the forkserver
        torch.set_num_threads(number)


def exit_process(code: int) -> NoReturn:
    """End the process at once: tearing down torch takes a second and can hang, and everything is stored."""
    with suppress(OSError, ValueError):  # the disk of the log may be full, its file closed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def main(argv: Sequence[str]) -> int:
    """The cold start: the JobSpec comes as JSON in the one argument."""
    die_of_signals()
    lower_priority()
    return execute(JobSpec.from_json(argv[0]))


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
