"""Guards: whoever was given up can write nothing, and every transition is all or nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from cdka.errors import CdkaError
from cdka.runs.events import Final, Step
from cdka.runs.job_queue import (
    Batch,
    claim,
    conclude,
    live_jobs,
    record_events,
    requeue,
    reserve,
    stop_requests,
)
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

SPEC = RunSpec("digits-vit", "digits-flip", steps=10)
ME = (1, "start", "boot")
STEP = Step(step=1, loss=1.0, samples=1, elapsed_s=0.1)
FINAL = Final(metrics={"test/accuracy": 1.0})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def reserved(store, specs=1, packs=None):
    store.submit([SPEC] * specs, packs=packs)
    return reserve(store.database, lambda spec: "cpu:0")


def test_an_attempt_is_claimed_once(store):
    ((run_id, attempt),) = reserved(store).runs
    assert claim(store.database, run_id, attempt, ME)
    assert not claim(store.database, run_id, attempt, (2, "other", "boot"))
    assert store.attempts(run_id)[0]["pid"] == 1


@pytest.mark.parametrize("end", ["lost", "requeued", "retried", "cancelled", "removed"])
def test_a_zombie_writes_nothing(store, end):
    ((run_id, attempt),) = reserved(store).runs
    if end != "requeued":
        assert claim(store.database, run_id, attempt, ME)
    if end in ("lost", "retried", "removed"):
        conclude(store.database, [(run_id, attempt)], "lost", "gone")
    if end == "requeued":
        requeue(store.database, [(run_id, attempt)])
    if end == "retried":
        store.retry(run_id)
        assert reserve(store.database, lambda spec: "cpu:0").runs == ((run_id, 2),)
        assert claim(store.database, run_id, 2, ME)
    if end == "cancelled":
        store.request_stop(run_id, keep=False)
        conclude(store.database, [(run_id, attempt)], "lost", "gone")
    if end == "removed":
        store.remove(run_id)
    before = store.runs()
    assert not claim(store.database, run_id, attempt, (2, "zombie", "boot"))
    assert record_events(store.database, [Batch(run_id, attempt, 0, [STEP, FINAL])]) == {run_id}
    assert store.events(run_id, attempt=attempt) == []
    assert store.runs() == before
    assert stop_requests(store.database, [(run_id, attempt)]) == ["cancel"], "a zombie is told to leave"


def test_an_event_twice_is_refused_whole(store):
    ((run_id, attempt),) = reserved(store).runs
    claim(store.database, run_id, attempt, ME)
    record_events(store.database, [Batch(run_id, attempt, 0, [STEP])])
    with pytest.raises(sqlite3.IntegrityError):
        record_events(store.database, [Batch(run_id, attempt, 0, [replace(STEP, step=9)])])
    assert store.run(run_id).step == 1
    assert len(store.events(run_id)) == 1


def test_the_last_word_and_the_state_are_one_transaction(store, monkeypatch):
    ((run_id, attempt),) = reserved(store).runs
    claim(store.database, run_id, attempt, ME)
    from cdka.runs import job_queue

    def broken(*_):
        raise RuntimeError("killed in the middle")

    monkeypatch.setattr(job_queue, "end_attempt", broken)
    with pytest.raises(RuntimeError):
        record_events(store.database, [Batch(run_id, attempt, 0, [STEP, FINAL])])
    assert store.run(run_id).status == "running"
    assert store.run(run_id).metrics == {}
    assert store.events(run_id) == []


def test_a_queued_or_unclaimed_run_is_cancelled_at_once(store):
    (queued,) = store.submit([SPEC])
    assert store.request_stop(queued, keep=True) == "cancelled"
    ((run_id, attempt),) = reserved(store).runs
    assert store.request_stop(run_id, keep=True) == "cancelled"
    assert not claim(store.database, run_id, attempt, ME)
    assert store.request_stop(run_id, keep=False) == "cancelled"


def test_cancel_overrides_keep_and_never_the_other_way_round(store):
    ((run_id, attempt),) = reserved(store).runs
    claim(store.database, run_id, attempt, ME)
    for keep, expected in ((True, "keep"), (True, "keep"), (False, "cancel"), (True, "cancel")):
        assert store.request_stop(run_id, keep=keep) == "stopping"
        assert stop_requests(store.database, [(run_id, attempt)]) == [expected]
    conclude(store.database, [(run_id, attempt)], "lost", "gone")
    assert store.run(run_id).status == "cancelled", "that is what killed it"


def test_a_run_that_ends_before_it_hears_of_the_stop_is_done(store):
    ((run_id, attempt),) = reserved(store).runs
    claim(store.database, run_id, attempt, ME)
    store.request_stop(run_id, keep=True)
    record_events(store.database, [Batch(run_id, attempt, 0, [FINAL])])
    assert store.run(run_id).status == "done"
    assert store.run(run_id).stop_requested is None
    assert store.request_stop(run_id, keep=False) == "done"


def test_a_pack_is_reserved_whole_and_only_with_its_own(store):
    ids = store.submit([SPEC.with_(seed=i) for i in range(5)], packs=[7, None, 7, 8, 7])
    other = store.submit([SPEC], packs=[7])
    jobs = [reserve(store.database, lambda spec: "cpu:0") for _ in range(4)]
    members = [[run_id for run_id, _ in job.runs] for job in jobs]
    assert members == [[ids[0], ids[2], ids[4]], [ids[1]], [ids[3]], other]
    with pytest.raises(CdkaError, match="one pack per run"):
        store.submit([SPEC, SPEC], packs=[1])


def test_runs_of_a_pack_retried_at_different_times_train_apart(store):
    first, second = (run_id for run_id, _ in reserved(store, 2, packs=[1, 1]).runs)
    conclude(store.database, [(first, 1), (second, 1)], "lost", "gone")
    store.retry(first)
    assert reserve(store.database, lambda spec: "cpu:0").runs == ((first, 2),)
    store.retry(second)
    assert reserve(store.database, lambda spec: "cpu:0").runs == ((second, 2),)


def test_runs_of_a_pack_that_resume_train_apart(store):
    """Their checkpoints need not stand at the same step."""
    first, second = (run_id for run_id, _ in reserved(store, 2, packs=[1, 1]).runs)
    conclude(store.database, [(first, 1), (second, 1)], "lost", "gone")
    for run_id in (first, second):
        (store.run(run_id).directory / "checkpoint").mkdir(parents=True)
    store.retry([first, second])
    assert reserve(store.database, lambda spec: "cpu:0").runs == ((first, 2),)
    assert reserve(store.database, lambda spec: "cpu:0").runs == ((second, 2),)


def test_live_jobs_tell_who_is_at_work(store):
    one = reserved(store)
    two = reserved(store)
    claim(store.database, *two.runs[0], ME)
    store.request_stop(two.runs[0][0], keep=False)
    found = live_jobs(store.database)
    assert [(entry.job, entry.identity, entry.cancelled) for entry in found] == [(one, None, False), (two, ME, True)]


def test_one_event_of_a_pack_that_is_refused_does_not_hold_up_the_others(store):
    job = reserved(store, 2, packs=[1, 1])
    for run_id, attempt in job.runs:
        claim(store.database, run_id, attempt, ME)
    (gone, _), (there, _) = job.runs
    conclude(store.database, [(gone, 1)], "lost", "gone")
    assert record_events(store.database, [Batch(gone, 1, 0, [STEP]), Batch(there, 1, 0, [STEP])]) == {gone}
    assert len(store.events(there)) == 1


@pytest.mark.parametrize(
    "other",
    [{"method": "lora", "components": None, "rank": 2}, {"num_processes": 2, "batch_size": 8}],
    ids=["lora", "processes"],
)
def test_a_pack_takes_no_run_that_cannot_share_its_batches(store, other):
    """Adapters of PEFT's own would all train on every part of the batch, and end with one and the same result."""
    alone = SPEC.with_(**other)
    with pytest.raises(CdkaError, match="only cdka runs of one process share a pack: got"):
        store.submit([SPEC, alone], packs=[1, 1])
    assert store.runs() == []
    store.submit([SPEC, alone], packs=[1, 2])
    assert len(store.runs()) == 2
