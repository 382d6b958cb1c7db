"""Submits, stop_requests, workers, faults and retries in random order, against a model that fits on a page."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from cdka.errors import CdkaError
from cdka.runs import events
from cdka.runs.job_queue import Batch, claim, conclude, record_events, requeue, reserve, stop_requests
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT, LIVE, RETRIABLE
from cdka.runs.store import Store

SPEC = RunSpec("digits-vit", "digits-flip")
EVENTS = {
    "step": events.Step(step=1, loss=1.0, samples=64, elapsed_s=0.1),
    "final": events.Final(metrics={"test/accuracy": 1.0}),
    "stopped": events.Final(metrics={"test/accuracy": 1.0}, stopped=True),
    "failed": events.Failed(cause="why"),
    "cancelled": events.Cancelled(),
}
KINDS = tuple(EVENTS)


class QueueMachine(RuleBasedStateMachine):
    """``expected[run] = [status, attempt, stop requested]``; ``streams[run, attempt]`` counts accepted events."""

    clicks = Bundle("clicks")
    workers = Bundle("workers")
    seen: ClassVar[Counter[str]] = Counter()
    """What the examples came across, so that a search that never gets anywhere is noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.mkdtemp()
        self.store = Store(self.home)
        self.expected: dict[str, list] = {}
        self.streams: dict[tuple[str, int], int] = {}
        self.queue: list[str] = []
        self.answers: dict[str, list[str]] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.home)

    @rule(target=clicks, number=st.integers(1, 3), packed=st.booleans())
    def submit(self, number, packed):
        click = f"click-{len(self.answers)}"
        self.answers[click] = self.store.submit(
            [SPEC] * number, request_id=click, packs=[0] * number if packed else None
        )
        for run_id in self.answers[click]:
            self.expected[run_id] = ["queued", 0, None]
            self.queue.append(run_id)
        return click

    @rule(click=clicks)
    def click_again(self, click):
        assert self.store.submit([SPEC], request_id=click) == self.answers[click]

    @rule(target=workers)
    def start(self):
        job = reserve(self.store.database, lambda spec: "cpu:0")
        assert (job is None) == (not self.queue)
        if job is None:
            return multiple()
        assert job.runs[0][0] == self.queue[0], "first come, first served"
        for run_id, attempt in job.runs:
            self.queue.remove(run_id)
            state = self.expected[run_id]
            assert attempt == state[1] + 1
            self.expected[run_id] = ["starting", attempt, None]
            self.streams[run_id, attempt] = 0
        return job.runs

    def owns(self, run_id, attempt):
        state = self.expected.get(run_id)
        return state is not None and state[0] in LIVE and state[1] == attempt

    @rule(runs=workers)
    def claim(self, runs):
        for run_id, attempt in runs:
            free = self.owns(run_id, attempt) and self.expected[run_id][0] == "starting"
            assert claim(self.store.database, run_id, attempt, (1, "s", "b")) == free
            if free:
                self.expected[run_id][0] = "running"

    @rule(target=workers, kind=st.sampled_from(KINDS))
    def start_claim_write(self, kind):
        """What mostly happens; single steps in random order seldom come so far."""
        runs = self.start()
        if not isinstance(runs, tuple):
            return multiple()
        self.claim(runs)
        self.write(runs, kind)
        return runs

    @rule(runs=workers, kind=st.sampled_from(["step", *KINDS]))
    def write(self, runs, kind):
        """Any worker at any time, zombies included: only who claimed a live attempt gets through."""
        for run_id, attempt in runs:
            event = EVENTS[kind]
            count = self.streams.get((run_id, attempt), 0)
            refused = record_events(self.store.database, [Batch(run_id, attempt, count, [event])])
            claimed = self.owns(run_id, attempt) and self.expected[run_id][0] != "starting"
            assert (run_id in refused) == (not claimed)
            self.seen[f"{kind} {'refused' if refused else 'accepted'}"] += 1
            if not refused:
                self.streams[run_id, attempt] += 1
                end = {"final": "done", "stopped": "stopped", "failed": "failed", "cancelled": "cancelled"}.get(kind)
                if end:
                    self.expected[run_id] = [end, attempt, None]

    @rule(runs=workers, known=st.booleans())
    def worker_dies(self, runs, known):
        conclude(self.store.database, runs, "lost" if known else "failed", "why")
        for run_id, attempt in runs:
            if self.owns(run_id, attempt):
                cancelled = self.expected[run_id][2] == "cancel"
                self.seen["death of a worker"] += 1
                self.expected[run_id] = ["cancelled" if cancelled else "lost" if known else "failed", attempt, None]

    @rule(runs=workers)
    def dispatcher_dies(self, runs):
        requeue(self.store.database, runs)
        for run_id, attempt in runs:
            if self.owns(run_id, attempt) and self.expected[run_id][0] == "starting":
                self.expected[run_id] = ["queued", attempt, None]
                self.seen["queued again"] += 1
        positions = [run.run_id for run in self.store.runs(status="queued")]
        with self.store.database.read() as sql:
            rows = sql.execute("SELECT run_id FROM runs WHERE status = 'queued' ORDER BY position, n").fetchall()
        self.queue = [row[0] for row in rows]
        assert sorted(self.queue) == sorted(positions)

    @rule(click=clicks, index=st.integers(0, 2), keep=st.booleans())
    def stop(self, click, index, keep):
        run_id = self.answers[click][index % len(self.answers[click])]
        if run_id not in self.expected:
            return
        state = self.expected[run_id]
        answer = self.store.request_stop(run_id, keep=keep)
        if state[0] in ("queued", "starting"):
            if state[0] == "queued":
                self.queue.remove(run_id)
            self.expected[run_id] = ["cancelled", state[1], None]
        elif state[0] in LIVE:
            self.expected[run_id] = ["stopping", state[1], "cancel" if not keep or state[2] == "cancel" else "keep"]
        assert answer == self.expected[run_id][0]

    @rule(click=clicks, index=st.integers(0, 2))
    def retry(self, click, index):
        run_id = self.answers[click][index % len(self.answers[click])]
        state = self.expected.get(run_id, ["removed"])
        try:
            self.store.retry(run_id)
        except CdkaError:
            assert state[0] not in RETRIABLE
        else:
            assert state[0] in RETRIABLE
            self.seen["retry"] += 1
            self.expected[run_id] = ["queued", state[1], None]
            self.queue.append(run_id)

    @rule(click=consumes(clicks))
    def remove(self, click):
        for run_id in self.answers[click]:
            state = self.expected.get(run_id, ["removed"])[0]
            if state in LIVE or state == "removed":
                continue
            self.store.remove(run_id)
            del self.expected[run_id]
            if run_id in self.queue:
                self.queue.remove(run_id)

    @invariant()
    def the_record_is_the_model(self):
        runs = {run.run_id: run for run in self.store.runs()}
        assert {run_id: run.status for run_id, run in runs.items()} == {r: s[0] for r, s in self.expected.items()}
        for run_id, (status, attempt, stop) in self.expected.items():
            assert runs[run_id].attempt == attempt
            assert bool(runs[run_id].metrics) == (status in KEPT)
            assert (runs[run_id].finished_at is None) == (status in ("queued", *LIVE))
            if status in LIVE:
                assert stop_requests(self.store.database, [(run_id, attempt)]) == [stop]
        for (run_id, attempt), count in self.streams.items():
            stored = self.store.events(run_id, attempt=attempt)
            assert [event["seq"] for event in stored] == list(range(count if run_id in self.expected else 0))


def test_submits_stops_faults_and_retries_in_any_order_follow_the_model():
    QueueMachine.seen.clear()
    search = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(QueueMachine, settings=search)
    for what in (
        "death of a worker",
        "queued again",
        "retry",
        *(f"{k} {e}" for k in KINDS for e in ("accepted", "refused")),
    ):
        assert QueueMachine.seen[what] >= 3, (what, QueueMachine.seen)
