"""The real engine around a training loop that needs no torch and misbehaves on request.

``python fake_engine.py dispatcher HOME``, ``... worker ORDER``, ``... forkserver FD``: the roles of the real processes.
What a run does is in its ``task_options``: ``pace_s`` per step, and ``act`` at step ``at``.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from cdka.engine import dispatcher, forkserver, process, recorder, spawn, worker
from cdka.engine.slots import JobSpec
from cdka.engine.spawn import WorkerStarter
from cdka.runs import events

HERE = Path(__file__).resolve()


def _misbehave(spec) -> None:
    act = spec.task_options["act"]
    if act == "raise":
        raise ValueError("the teapot is empty")
    if act == "memory":
        raise MemoryError("no room")
    if act == "exit":
        os._exit(7)
    if act == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    if act == "freeze":  # a call into C that never gives the interpreter back: no other thread runs either
        ctypes.PyDLL(None).sleep(600)
    if act == "child":  # like a data loader's: it must not outlive its worker
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "fill":  # leaves no room for events, nor for the adapter
        block = b"x" * 4096
        with suppress(OSError), open(Path(spec.task_options["where"]) / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(block)
    if act == "clock":  # somebody sets the machine's clock by an hour
        true, by = time.time, float(spec.task_options["by_s"])
        time.time = lambda: true() + by
    if act == "quota":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if act == "chatter":
        line = b"x" * 99 + b"\n"
        with open(1, "wb", closefd=False) as out:
            for _ in range(spec.task_options["megabytes"] * 100):
                out.write(line * 100)
            out.write(b"the very last line\n")


def save(directory: Path, step: int) -> None:
    """An adapter of two files, whole or not there."""
    partial = directory / "adapter.partial"
    partial.mkdir(exist_ok=True)
    for name in ("one", "two"):
        (partial / name).write_text(str(step))
    shutil.rmtree(directory / "adapter", ignore_errors=True)  # from an attempt that was killed before its last word
    partial.rename(directory / "adapter")


def train(runs, directories, control, shared):
    """A pack of runs whose loss is 1/step; the contract of ``cdka.train.loop.train``."""
    specs = [run.spec for run in runs]
    members = list(range(len(specs)))
    done = dict.fromkeys(members, 0)
    for i in members:
        resumed = (directories[i] / "checkpoint").read_text() if (directories[i] / "checkpoint").exists() else "0"
        done[i] = int(resumed)
        yield i, events.Start(num_params=42, total_steps=specs[i].steps, versions={"fake": "1"})
        if done[i]:
            yield i, events.Resumed(step=done[i])
    for i in members:
        yield i, events.Phase(phase="training")

    def final(i, stopped):
        yield i, events.Phase(phase="saving")
        save(directories[i], done[i])
        answers = {"example": [0, 1], "label": [1, 2], "predicted": [1, None]}
        metrics = {"test/accuracy": 0.5, "steps_done": done[i]}
        yield i, events.Final(metrics=metrics, stopped=stopped, predictions=answers)

    while members:
        for i in list(members):
            spec, stop = specs[i], control(i)
            if stop == "cancel":
                members.remove(i)
                yield i, events.Cancelled()
                continue
            if stop == "keep" or done[i] == spec.steps:
                members.remove(i)
                yield from final(i, done[i] < spec.steps)
                continue
            done[i] += 1
            if int(spec.task_options.get("at", 0)) == done[i]:  # text, from the command line
                _misbehave(spec)
            yield (
                i,
                events.Step(
                    step=done[i],
                    loss=1 / done[i],
                    lr=spec.lr,
                    grad_norm=1.0,
                    samples=done[i] * spec.batch_size,
                    elapsed_s=done[i] * 0.01,
                ),
            )
            if done[i] % spec.eval_every == 0:
                loss = float(spec.task_options.get("loss", 1.0))
                metrics = {"eval/accuracy": done[i] / spec.steps, "eval/loss": loss}
                yield (
                    i,
                    events.Evaluated(
                        step=done[i], metrics=metrics, examples=4, samples=done[i], elapsed_s=done[i] * 0.01
                    ),
                )
            if spec.checkpoint_every and done[i] % spec.checkpoint_every == 0:
                (directories[i] / "checkpoint").write_text(str(done[i]))
            time.sleep(spec.task_options.get("pace_s", 0.0))


def command(role: str) -> list[str]:
    """What starts one of the processes."""
    return [sys.executable, str(HERE), role]


def execute(job_spec: JobSpec) -> int:
    """The real worker around the fake loop, with little patience for a full disk."""
    recorder.STORE_WAIT_LIMIT_S, recorder.RETRY_S = 1.0, 0.1
    return worker.execute(job_spec, lambda: train, dispatcher=command("dispatcher"))


def be_impatient(limit_s: float) -> None:
    """Take a process for hung after ``limit_s`` instead of a minute."""
    process.DISPATCHER_LIMIT_S = spawn.FORKSERVER_LIMIT_S = process.WAKE_WORKER_S = limit_s
    process.END_WORKER_S = 2 * limit_s


if __name__ == "__main__":
    role, argument = sys.argv[1:]
    if "FAKE_LIMIT_S" in os.environ:
        be_impatient(float(os.environ["FAKE_LIMIT_S"]))
    if role == "worker":
        worker.exit_process(execute(JobSpec.from_json(argument)))
    elif role == "forkserver":
        time.sleep(float(os.environ.get("FAKE_LOAD_S", "0")))
        forkserver.main(int(argument), names=(), run=execute, dispatcher=command("dispatcher"))
    elif role == "broken-forkserver":
        sys.exit(3)
    else:
        warm = command("broken-forkserver" if "broken" in role else "forkserver")
        # "The code on disk" is this one file: somebody who edits ours while tests run must not replace dispatchers.
        marker = Path(os.environ.get("FAKE_CODE", "/nowhere"))
        dispatcher.fingerprint = lambda: hash(marker.exists())
        starter = WorkerStarter(Path(argument), worker=command("worker"), forkserver=None if "cold" in role else warm)
        dispatcher.main(argument, starter, command=command(role), idle_s=float(os.environ.get("FAKE_IDLE_S", "60")))
