"""Executes one job, K >= 1 runs, in this process: claim, train, record, end.

``python -m cdka.engine.worker JOB`` is the cold start; the forkserver forks and calls ``execute`` itself.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cdka.engine import slots
from cdka.engine.failures import EXIT_UNRECORDED, cause_of
from cdka.engine.process import HEARTBEAT_S, own_identity
from cdka.engine.recorder import Recorder
from cdka.runs.database import StoreBusy, StoreFull
from cdka.runs.events import Evaluated, Event, Memory
from cdka.runs.job_queue import claim
from cdka.runs.resolve import ResolvedRun, resolve_runs
from cdka.runs.run import run_directory
from cdka.runs.store import Store

Train = Callable[
    [Sequence[ResolvedRun], Sequence[Path], Callable[[int], str | None], Path], Iterator[tuple[int, Event]]
]

_NICENESS, _OOM_SCORE = 5, "500"


@dataclass(frozen=True)
class JobSpec:
    """The job of one worker: a home, runs with their attempts, a slot. Plain data that travels as JSON.

    ``alone`` is True where no other job was at work or waiting when it was started.
    """

    home: str
    runs: tuple[tuple[str, int], ...]
    slot: slots.Slot
    alone: bool = False

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        return json.dumps({"home": self.home, "runs": self.runs, "slot": vars(self.slot), "alone": self.alone})

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """The JobSpec that ``to_json`` wrote."""
        data = json.loads(text)
        runs = tuple((run_id, attempt) for run_id, attempt in data["runs"])
        return cls(data["home"], runs, slots.Slot(**data["slot"]), data.get("alone", False))

    def log_paths(self) -> list[Path]:
        """The log of each run's attempt, in the run's folder; all are one file."""
        return [run_directory(Path(self.home), run_id) / f"attempt-{attempt}.log" for run_id, attempt in self.runs]

    @property
    def heartbeat_path(self) -> Path:
        """The file that the worker touches every ``HEARTBEAT_S`` while it lives; absent before and after."""
        return self.log_paths()[0].with_suffix(".alive")

    def open_log(self) -> int:
        """A file descriptor for what the job prints: one file, linked into the folder of each run (created)."""
        first, *others = self.log_paths()
        first.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for other in others:
            other.parent.mkdir(parents=True, exist_ok=True)
            if not other.exists():
                os.link(first, other)
        return descriptor


def load_train() -> Train:
    """The training loop. Imports torch."""
    from cdka.train.loop import train

    return train


def execute(job_spec: JobSpec, load: Callable[[], Train] = load_train) -> int:
    """Claim and train the runs of ``job_spec``; returns the exit code of the process."""
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
    with _heartbeat(job_spec.heartbeat_path):
        return _train(job_spec, store, claimed, load)


def _train(job_spec: JobSpec, store: Store, claimed: Sequence[tuple[str, int]], load: Callable[[], Train]) -> int:
    specs = [slots.in_process(store.run(run_id).spec, job_spec.slot) for run_id, _ in claimed]
    directories = [run_directory(store.home, run_id) for run_id, _ in claimed]
    recorder = Recorder(store, claimed, specs[0].checkpoint_every)
    runs: list[ResolvedRun] = []
    try:
        runs = resolve_runs(specs)
        train = load()
        _limit_threads(slots.threads_for(job_spec.slot, runs[0].shapes.base_params, alone=job_spec.alone))
        shared = store.home / "judging" / (store.run(claimed[0][0]).sweep_id or claimed[0][0])
        for index, event in train(runs, directories, recorder.stop_requested, shared):
            recorder.add(index, event)
            if isinstance(event, Evaluated):
                recorder.add(index, Memory(peak_bytes=_peak_bytes()))
            if not recorder.open_runs:
                break
        recorder.close()
    except Exception as error:
        with suppress(OSError):  # the disk may be full
            traceback.print_exc()
        return 1 if recorder.fail_all(cause_of(error, runs, _peak_bytes(), _device_type())) else EXIT_UNRECORDED
    if recorder.open_runs:
        recorder.fail_all("the training loop ended without a result; this is a defect, please report it.")
        return 1
    return 0


@contextmanager
def _heartbeat(path: Path) -> Iterator[None]:
    """Touch ``path`` from a thread while the block runs: a process that was stopped, or hangs, touches nothing."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(path)

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


def die_of_signals() -> None:
    """Let SIGINT and SIGTERM end this process as such, so that its dispatcher sees what ended it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def lower_priority() -> None:
    """Give way to the Studio on the processor, and be the first to end when the system runs out of memory."""
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def _peak_bytes() -> int:
    """The most memory this process has held: on its GPU if it used one, else resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device_type() -> str:
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_initialized() else "cpu"


def _limit_threads(number: int) -> None:
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
