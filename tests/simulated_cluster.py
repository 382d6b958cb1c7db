"""A cluster that trains nothing, to see where the dispatcher and the store end: 1,000 nodes x 8 slots, 100,000 runs.

``python tests/simulated_cluster.py [RUNS [NODES [SLOTS]]]`` prints a line of numbers for each tenth of the runs. Every
run has 20 steps, two evaluations and a final event, which arrive in six parts; a node dies now and then.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cdka.engine.contract import Report
from cdka.engine.dispatcher import Dispatcher
from cdka.engine.spawn import WorkerStarter
from cdka.runs import events
from cdka.runs.job_queue import live_jobs
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store

ENGINE = "ray:simulated:1"
STEPS, PARTS = 20, 6
DEATHS = 1e-3
"""The share of jobs whose node dies under them."""


def parts_of_a_run() -> list[list[events.Event]]:
    whole: list[events.Event] = [events.Start(num_params=42, total_steps=STEPS, versions={"torch": "0"})]
    for step in range(1, STEPS + 1):
        whole.append(events.Step(step=step, loss=1 / step, lr=1e-3, grad_norm=1.0, samples=step, elapsed_s=step / 10))
        if step % 10 == 0:
            metrics = {"eval/accuracy": step / STEPS, "eval/loss": 1 / step}
            whole.append(events.Evaluated(step=step, metrics=metrics, examples=100, samples=step, elapsed_s=step / 10))
    whole.append(events.Final(metrics={"test/accuracy": 0.9, "test/loss": 0.1, "steps_done": STEPS}))
    size = -(-len(whole) // PARTS)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


@dataclass
class _Work:
    job: object
    node: int
    part: int = 0
    dies: bool = False


class SimulatedEngine:
    """The contract over nodes that do not exist; each job reports a part in every ``every`` th turn."""

    def __init__(self, nodes: int, slots: int, seed: int = 0) -> None:
        self.capacity, self.nodes, self.random = nodes * slots, nodes, random.Random(seed)
        self.work: dict[str, _Work] = {}
        self.parts = parts_of_a_run()
        self.lost = 0

    def ready(self):
        return True

    def has_room(self):
        return len(self.work) < self.capacity

    def slot_for(self, spec):
        return ENGINE if self.has_room() else None

    def submit(self, job, specs, *, alone):
        self.work[job.job_id] = _Work(job, self.random.randrange(self.nodes), dies=self.random.random() < DEATHS)

    def attach(self, live):
        raise AssertionError("this dispatcher started everything itself")

    def jobs(self):
        return [work.job for work in self.work.values()]

    def cancel(self, job_id):
        pass

    def forget(self, job_id):
        del self.work[job_id]

    def close(self):
        pass

    def poll(self, live):
        reports = []
        for job_id, work in self.work.items():
            if work.part == len(self.parts):
                reports.append(Report(job_id, outcome=(RunState.FAILED, "it ended without a result")))
                continue
            if self.random.random() < 0.5:
                continue  # not every job has something to tell in every turn
            if work.dies and work.part == 3:
                self.lost += 1
                reports.append(Report(job_id, outcome=(RunState.LOST, "its node died (simulated)."), again=True))
                continue
            place = (1, f"node{work.node}", f"node{work.node} cpu") if work.part == 0 else None
            found = {run_id: self.parts[work.part] for run_id, _ in work.job.runs}
            reports.append(Report(job_id, place=place, events=found, worked_s=1.0))
            work.part += 1
        return reports


def timed(call) -> float:
    """Milliseconds, the best of three."""
    best = 1e9
    for _ in range(3):
        started = time.perf_counter()
        call()
        best = min(best, 1e3 * (time.perf_counter() - started))
    return best


def pages(store: Store) -> str:
    """How long what the Studio's pages read takes."""
    times = {
        "newest 60 runs": timed(lambda: store.runs(newest_first=True, limit=60)),
        "counts": timed(store.counts),
        "sweeps": timed(lambda: store.sweeps(limit=50)),
        "live jobs": timed(lambda: live_jobs(store.database)),
        "search": timed(lambda: store.count(text="seed 7")),
    }
    return ", ".join(f"{name} {ms:.0f} ms" for name, ms in times.items())


def main(runs: int = 100_000, nodes: int = 1_000, slots: int = 8) -> None:
    home = Path(tempfile.mkdtemp(prefix="cdka-simulated-"))
    store = Store(home)
    spec = RunSpec("digits-vit", "digits-flip", components="2,8,1", steps=STEPS, eval_every=10, engine=ENGINE)
    started = time.perf_counter()
    for number in range(0, runs, 10_000):
        size = min(10_000, runs - number)
        store.create_sweep(
            f"part {number}",
            {"name": "x", "model": spec.model, "task": spec.task},
            [spec.with_(seed=seed) for seed in range(size)],
        )
    print(f"queued {runs:,} runs in {time.perf_counter() - started:.1f} s", flush=True)
    engine = SimulatedEngine(nodes, slots)
    dispatcher = Dispatcher(
        store, WorkerStarter(home, worker=("false",), forkserver=None), [], lambda store, name: engine
    )
    slowest, turns, told = 0.0, 0, 0
    started = time.perf_counter()
    while True:
        before = time.perf_counter()
        busy = dispatcher.step()
        slowest, turns = max(slowest, time.perf_counter() - before), turns + 1
        done = store.counts().get(RunState.DONE, 0)
        if done * 10 // runs > told or not busy:
            told = done * 10 // runs
            passed = time.perf_counter() - started
            with store.database.read() as sql:
                (stored,) = sql.execute("SELECT count(*) FROM events").fetchone()
            size = sum(path.stat().st_size for path in home.glob("*.sqlite3*")) / 1e6
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            print(
                f"{done:,} done after {passed:.0f} s: {stored / passed:,.0f} events/s, {turns} turns, slowest "
                f"{slowest:.1f} s, database {size:,.0f} MB, memory {memory:,.0f} MB; {pages(store)}",
                flush=True,
            )
            slowest = 0.0
        if not busy:
            break
    attempts = Counter(run.attempt for run in store.runs(limit=None))
    print(f"{engine.lost} jobs lost with their node; runs by attempts: {dict(attempts)}; {dict(store.counts())}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
