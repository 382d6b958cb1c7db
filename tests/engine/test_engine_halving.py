"""Halving on the real engine around a fake loop: the weaker arms stop at fixed steps, pairs whole, lengths apart."""

from __future__ import annotations

import math
import time
from pathlib import Path

import fake_engine
import pytest

from cdka.compare.comparison import STOPPED_AT, compare
from cdka.compare.measure import Measure
from cdka.compare.source import StoreSource
from cdka.engine.dispatcher import Dispatcher
from cdka.engine.slots import Slot
from cdka.engine.spawn import WorkerStarter
from cdka.errors import CdkaError
from cdka.runs import halving
from cdka.runs.job_queue import anything_to_do, halving_undecided
from cdka.runs.schema import UNDECIDED
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.sweep.plan import plan

ARMS = ("1,1,1", "1,2,1", "1,4,1", "1,8,1")
SEEDS = 2


def queued(folder: Path) -> tuple[Store, str, Dispatcher]:
    """(store, id of a queued sweep of four arms and two seeds with two halvings, dispatcher)."""
    base = RunSpec("digits-vit", "digits-flip", steps=8, eval_every=2)
    # the loop's eval loss is "loss" of the task's options: the arm named last in ARMS is the best
    specs = [
        base.with_(components=c, seed=s, task_options={"loss": 1 - 0.1 * i})
        for i, c in enumerate(ARMS)
        for s in range(SEEDS)
    ]
    facts = halving.plan_halving(specs, 2)
    specs = [spec.with_(checkpoint_every=facts["levels"][0]) for spec in specs]
    store = Store(folder)
    sweep_id = store.create_sweep("halved", {"name": "halved", "halving": facts}, specs)
    starter = WorkerStarter(folder, worker=fake_engine.command("worker"), forkserver=None)
    return store, sweep_id, Dispatcher(store, starter, [Slot(f"cpu:{n}", None, 1) for n in range(2)])


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """(store, id of a sweep) once both halvings are over."""
    store, sweep_id, dispatcher = queued(tmp_path_factory.mktemp("halved"))
    work(store, dispatcher)
    return store, sweep_id


def work(store: Store, dispatcher: Dispatcher, true=None, limit_s: float = 120.0) -> None:
    deadline, idle = time.monotonic() + limit_s, 0
    while idle < 40 and not (true and true()):  # a decision is taken up to half a second later
        idle = 0 if dispatcher.step() else idle + 1
        assert time.monotonic() < deadline, [(run.status, run.step, run.error) for run in store.runs()]
        time.sleep(0.02)


def test_the_weaker_half_stops_at_each_level_with_all_its_seeds_and_the_rest_goes_on(halved):
    store, sweep_id = halved
    ended = {
        arm: sorted((run.status, run.step) for run in store.runs() if str(run.spec.components) == arm) for arm in ARMS
    }
    assert ended == {
        ARMS[0]: [("stopped", 2)] * SEEDS,
        ARMS[1]: [("stopped", 2)] * SEEDS,
        ARMS[2]: [("stopped", 4)] * SEEDS,
        ARMS[3]: [("done", 8)] * SEEDS,
    }
    for run in store.runs():  # every step once, over the attempts
        steps = [
            e["step"] for n in range(1, run.attempt + 1) for e in store.events(run.run_id, kinds=["step"], attempt=n)
        ]
        assert steps == list(range(1, run.step + 1))
    facts = store.sweep(sweep_id).plan["halving"]
    assert facts["over"]
    assert [(one["step"], len(one["going_on"]), one["saved_steps"]) for one in facts["decisions"]] == [
        (2, 4, 24),
        (4, 2, 8),
    ]
    assert halving.words_of(facts) == (
        "Halving by mean eval loss: 2 of 4 arms stopped at step 2; 1 of 2 arms stopped at step 4. It saved 32 steps of "
        "training."
    )


def test_compare_counts_stopped_runs_where_they_stopped_and_never_mixes_lengths(halved):
    store, sweep_id = halved
    source = StoreSource(store, [sweep_id])
    found = compare(source, Measure("test/accuracy"), "all-pairs")
    assert sorted(found.arms[STOPPED_AT]) == [0, 2, 2, 4]
    assert sorted(len(group) for group in found.groups) == [1, 1, 2]
    length = dict(zip(found.arms["arm"], found.arms[STOPPED_AT], strict=True))
    assert len(found.verdicts) == 1
    assert all(length[row.a] == length[row.b] for row in found.verdicts.itertuples())
    assert sum("stopped at step 2" in label for label in found.arms["arm_label"]) == 2
    notes = " ".join(found.missing())
    assert "2 arms at step 2, 1 arm at step 4" in notes
    assert "Stopping saved 32 of 64 steps of training." in notes
    at_two = compare(source, Measure("eval/loss", "step", 2), "all-pairs")  # all of them have passed it
    assert len(at_two.groups) == 1
    assert at_two.arms["n"].tolist() == [SEEDS] * len(ARMS)


def test_a_sweep_is_not_over_while_a_decision_is_to_come_though_all_its_runs_have_stopped(tmp_path):
    """`cdka sweep --wait` once returned after the first round, and Fine-tune no longer looked."""
    store, sweep_id, dispatcher = queued(tmp_path)
    run_ids = [run.run_id for run in store.runs()]
    dispatcher._halved_at = math.inf  # no decision is made
    work(store, dispatcher)
    assert all(run.status.is_finished() for run in store.runs())
    assert not store.sweep(sweep_id).finished
    assert halving_undecided(store.database, run_ids)
    assert anything_to_do(store.database)
    (other,) = store.submit([RunSpec("digits-vit", "digits-flip", components="1,1,1", steps=2)])
    assert not halving_undecided(store.database, [other])
    dispatcher._halved_at = 0.0
    work(store, dispatcher)
    assert store.sweep(sweep_id).finished
    assert not halving_undecided(store.database, run_ids)
    assert not anything_to_do(store.database)
    with store.database.read() as sql:
        plan = " ".join(
            str(row[3]) for row in sql.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM sweeps WHERE {UNDECIDED}")
        )
    assert "sweeps_undecided" in plan, "asked at every turn: plans of all sweeps are not read"


def test_a_sweep_that_is_called_off_does_not_go_on(tmp_path):
    store, sweep_id, dispatcher = queued(tmp_path)
    work(store, dispatcher, lambda: store.counts().get("stopped", 0) >= 2)
    store.request_stops([run.run_id for run in store.runs()], keep=False)
    work(store, dispatcher)
    assert store.sweep(sweep_id).plan["halving"]["over"]
    assert set(store.counts()) <= {"stopped", "cancelled"}
    assert max(run.attempt for run in store.runs()) == 1


def test_an_arm_that_lost_a_run_goes_no_further_and_ties_are_settled_alike(tmp_path):
    store = Store(tmp_path)
    specs = [RunSpec("digits-vit", "digits-flip", components=c, seed=s, steps=8) for c in ARMS[:3] for s in range(2)]
    store.submit(specs)
    runs = store.runs()
    one = halving.decide(runs, 2, lambda run: 1.0)
    assert one == halving.decide(runs[::-1], 2, lambda run: 1.0)
    assert (len(one["going_on"]), one["saved_steps"]) == (2, 12)
    broken = halving.decide(runs[1:], 2, lambda run: 1.0)
    assert halving.arm_key(runs[0].spec) not in broken["going_on"]
    assert halving.decide(runs, 2, lambda run: None)["going_on"] == []


def test_rounds_that_do_not_fit_are_refused_before_anything_runs():
    assert halving.levels_of(steps=240, eval_every=20, rounds=2) == [60, 120]
    for rounds, words in ((0, "from 1 to 8"), (9, "from 1 to 8"), (4, "needs an evaluation before it")):
        with pytest.raises(CdkaError, match=words):
            halving.levels_of(steps=240, eval_every=20, rounds=rounds)
    with pytest.raises(CdkaError, match="at least two arms"):
        plan("digits-vit", "digits-flip", arms=[{"components": "2,8,1"}], halving=1)
    with pytest.raises(CdkaError, match="both choose among runs"):
        plan("digits-vit", "digits-flip", grid="r=1,2", tune_lr=[1e-3, 3e-3], halving=1)
    planned = plan(
        "digits-vit", "digits-flip", grid="r=1,2,4", seeds=2, halving=1, settings={"steps": 80, "eval_every": 20}
    )
    assert planned.document["halving"]["levels"] == [40]
    assert {spec.checkpoint_every for spec in planned.specs} == {40}
    assert any("stops at step 40" in note for note in planned.notes)
