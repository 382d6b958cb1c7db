"""The store as its users see it: asking, looking, changing one's mind."""

from __future__ import annotations

import math
import subprocess
import sys

import pandas as pd
import pytest

from cdka.errors import CdkaError
from cdka.paths import log_tail
from cdka.runs import events
from cdka.runs.job_queue import Batch, claim, conclude, record_events, reserve
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

SPEC = RunSpec("digits-vit", "digits-flip", steps=10, components="2,8,4")
ME = (1, "start", "boot")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def start(store, **more):
    """The id of a fresh run whose first attempt is at work."""
    (run_id,) = store.submit([SPEC.with_(**more)])
    store.prioritise(run_id)
    job = reserve(store.database, lambda spec: "cpu:0")
    assert job.runs == ((run_id, 1),)
    assert claim(store.database, run_id, 1, ME)
    return run_id


def step(n, **more):
    return events.Step(**{"step": n, "loss": 1 / n, "samples": 64 * n, "elapsed_s": n / 10, "lr": 1e-3, **more})


def final(stopped=False):
    answers = {"split": "test", "example": [3, 5], "label": [1, 2], "predicted": [1, None]}
    metrics = {"test/accuracy": 0.75, "eval/loss": 0.5}
    return events.Final(metrics=metrics, stopped=stopped, predictions=answers)


def test_a_run_comes_back_as_it_was_asked_for(store):
    spec = RunSpec(
        "digits-vit", "digits-flip", method="lora", rank=3, lr=2e-3, target_modules=("q_proj", "fc1"), seed=7
    )
    (run_id,) = store.submit(spec)
    run = Store(store.home).run(run_id)
    assert run.spec == spec
    assert (run.status, run.attempt, run.metrics, run.seconds) == ("queued", 0, {}, None)
    assert run.adapter_dir == store.home / "runs" / run_id / "adapter"


def test_a_double_click_submits_once(store):
    first = store.submit([SPEC, SPEC.with_(seed=1)], request_id="click")
    assert store.submit([SPEC, SPEC.with_(seed=1)], request_id="click") == first
    sweep = store.create_sweep("grid", {"r1": [1, 2]}, [SPEC], request_id="launch")
    assert store.create_sweep("grid", {"r1": [1, 2]}, [SPEC], request_id="launch") == sweep
    assert len(store.runs()) == 3
    assert len(store.sweeps()) == 1
    assert store.submit([SPEC]) != store.submit([SPEC]), "without a request id each call is a request"


def test_a_sweep_counts_its_runs(store):
    sweep_id = store.create_sweep("grid", {"seeds": 3}, [SPEC.with_(seed=i) for i in range(3)])
    assert store.sweep(sweep_id).counts == {"queued": 3}
    assert not store.sweep(sweep_id).finished
    for run in store.runs(sweep_id=sweep_id):
        store.request_stop(run.run_id, keep=False)
    assert store.sweep(sweep_id).finished
    assert store.sweep(sweep_id).plan == {"seeds": 3}
    with pytest.raises(CdkaError, match="at least one run"):
        store.create_sweep("empty", {}, [])
    with pytest.raises(CdkaError, match="unknown sweep"):
        store.submit([SPEC], sweep_id="s-22222222")
    assert len(store.runs()) == 3, "a refused submit leaves nothing behind"


def test_the_queue_is_served_in_order_and_priority_reorders_it(store):
    a, b, c, d = store.submit([SPEC] * 4)
    store.prioritise([d, c])
    order = [reserve(store.database, lambda spec: "cpu:0").runs[0][0] for _ in range(4)]
    assert order == [d, c, a, b]
    assert reserve(store.database, lambda spec: "cpu:0") is None


def test_a_run_whose_device_is_taken_does_not_block_those_behind_it(store):
    on_gpu, on_cpu = store.submit([SPEC.with_(device="cuda:0"), SPEC.with_(device="cpu")])
    job = reserve(store.database, lambda spec: "cpu:0" if spec.device == "cpu" else None)
    assert job.runs == ((on_cpu, 1),)
    assert store.run(on_gpu).status == "queued"


def test_an_id_may_be_shortened_but_never_leaves_the_home(store):
    (run_id,) = store.submit(SPEC)
    assert store.run(run_id[:5]).run_id == run_id
    second = store.submit(SPEC)[0]
    while second[2] != run_id[2]:  # until two ids begin alike
        second = store.submit(SPEC)[0]
    with pytest.raises(CdkaError, match="must be unique"):
        store.run(run_id[:3])
    for bad in ("../../etc", "r-/../x", "r-*", "", "R-ABCD", "r-" + "a" * 40, "r-a.b", None):
        for use in (store.run, store.remove, store.log):
            with pytest.raises(CdkaError, match="named by its id"):
                use(bad)
    with pytest.raises(CdkaError, match="unknown run"):
        store.run("r-0000")


def test_poll_returns_only_what_is_new(store):
    run_id, other = start(store), start(store)
    cursors = {run_id: (0, -1), other: (0, -1), "r-gone": (0, -1)}
    record_events(store.database, [Batch(run_id, 1, 0, [events.Start(num_params=9), step(1)])])
    first = store.poll(cursors)
    assert [event["kind"] for event in first.events[run_id]] == ["start", "step"]
    assert first.events[other] == []
    assert set(first.runs) == {run_id, other}
    assert first.runs[run_id].num_params == 9
    again = store.poll(first.cursors)
    assert again.events == {run_id: [], other: []}
    assert again.cursors == first.cursors
    record_events(store.database, [Batch(run_id, 1, 2, [step(2)])])
    assert [event["step"] for event in store.poll(again.cursors).events[run_id]] == [2]


def test_poll_begins_anew_when_a_run_is_started_again(store):
    run_id = start(store)
    record_events(store.database, [Batch(run_id, 1, 0, [step(1), step(2)])])
    before = store.poll({run_id: (0, -1)})
    conclude(store.database, [(run_id, 1)], "lost", "gone")
    store.retry(run_id)
    reserve(store.database, lambda spec: "cpu:0")
    claim(store.database, run_id, 2, ME)
    record_events(store.database, [Batch(run_id, 2, 0, [step(1)])])
    after = store.poll(before.cursors)
    assert after.cursors[run_id] == (2, 0)
    assert [event["step"] for event in after.events[run_id]] == [1]


def test_a_number_that_is_none_is_missing_not_zero(store):
    run_id = start(store)
    record_events(store.database, [Batch(run_id, 1, 0, [step(1, loss=math.nan, grad_norm=math.inf)])])
    (event,) = store.events(run_id)
    assert event["train/loss"] is None
    assert event["grad_norm"] is None
    assert store.curves([run_id])["train/loss"].isna().all()


def test_progress_is_on_the_record(store):
    run_id = start(store)
    record_events(store.database, [Batch(run_id, 1, 0, [events.Phase(phase="training"), step(4)])])
    run = store.run(run_id)
    assert (run.status, run.phase, run.step) == ("running", "training", 4)
    assert run.remaining_s == pytest.approx(0.6)
    assert run.samples_per_s == pytest.approx(640)
    record_events(store.database, [Batch(run_id, 1, 2, [events.Memory(peak_bytes=12345), final()])], 2.5)
    run = store.run(run_id)
    assert (run.status, run.phase, run.remaining_s, run.peak_bytes, run.seconds) == ("done", None, None, 12345, 2.5)


def test_a_resumed_run_has_an_honest_pace_and_one_unbroken_curve(store):
    run_id = start(store)
    record_events(store.database, [Batch(run_id, 1, 0, [step(n) for n in (1, 2, 3, 4)])])
    conclude(store.database, [(run_id, 1)], "lost", "gone")
    store.retry(run_id)
    reserve(store.database, lambda spec: "cpu:0")
    claim(store.database, run_id, 2, ME)
    record_events(store.database, [Batch(run_id, 2, 0, [events.Resumed(step=2), step(3, elapsed_s=0.1)])])
    run = store.run(run_id)
    assert run.remaining_s == pytest.approx(0.7), "one step in 0.1 s, seven to go"
    curve = store.curves([run_id])
    assert curve["step"].tolist() == [1, 2, 3]
    assert curve["elapsed_s"].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_frame_has_one_row_per_run_and_metrics_as_columns(store):
    done = start(store)
    record_events(store.database, [Batch(done, 1, 0, [events.Start(num_params=321), final()])], 1.5)
    (lora,) = store.submit(SPEC.with_(method="lora", components=None, rank=8))
    table = store.frame().set_index("run_id")
    assert table.loc[done, ["r1", "r2", "r"]].tolist() == [2, 8, 4]
    assert table.loc[done, "test/accuracy"] == 0.75
    assert table.loc[done, "num_params"] == 321
    assert table.loc[done, "seconds"] == 1.5
    assert pd.isna(table.loc[lora, "r1"])
    assert pd.isna(table.loc[lora, "test/accuracy"])
    assert table.loc[lora, "rank"] == 8
    assert str(table["r1"].dtype) == "Int64"
    assert list(store.frame(run_ids=[lora])["run_id"]) == [lora]
    empty = Store(store.home / "other").frame()
    assert len(empty) == 0
    assert {"run_id", "r1", "status", "seed"} <= set(empty.columns)


def test_predictions_are_those_of_a_kept_run_only(store):
    run_id = start(store)
    assert store.predictions(run_id).empty
    record_events(store.database, [Batch(run_id, 1, 0, [final(stopped=True)])])
    table = store.predictions(run_id)
    assert table["label"].tolist() == [1, 2]
    assert table["predicted"].isna().tolist() == [False, True]
    assert store.run(run_id).status == "stopped"
    assert "predictions" not in store.events(run_id)[-1], "they are not sent with every poll"
    store.retry(run_id)
    assert store.predictions(run_id).empty, "the metrics of an attempt given up are not shown either"
    assert store.run(run_id).metrics == {}


def test_retry_only_what_has_ended_without_being_done(store):
    queued = store.submit(SPEC)[0]
    with pytest.raises(CdkaError, match="is queued"):
        store.retry(queued)
    store.remove(queued)
    done = start(store)
    record_events(store.database, [Batch(done, 1, 0, [final()])])
    lost = start(store)
    conclude(store.database, [(lost, 1)], "lost", "gone")
    with pytest.raises(CdkaError, match="is done"):
        store.retry([lost, done])
    assert store.run(lost).status == "lost", "all or none"


def test_remove_takes_the_folder_and_refuses_a_run_at_work(store):
    run_id = start(store)
    folder = store.run(run_id).directory
    (folder / "adapter").mkdir(parents=True)
    with pytest.raises(CdkaError, match="Cancel it first"):
        store.remove(run_id)
    record_events(store.database, [Batch(run_id, 1, 0, [step(1), final()])])
    store.remove(run_id)
    assert not folder.exists()
    assert store.runs() == []
    assert store.events(run_id) == []


def test_attempts_keep_their_own_history(store):
    run_id = start(store)
    record_events(store.database, [Batch(run_id, 1, 0, [events.Start(num_params=1, versions={"torch": "2"})])])
    conclude(store.database, [(run_id, 1)], "failed", "why")
    store.retry(run_id)
    reserve(store.database, lambda spec: "cpu:1")
    first, second = store.attempts(run_id)
    assert (first["status"], first["error"], first["versions"]) == ("failed", "why", {"torch": "2"})
    assert (second["status"], second["slot"], second["pid"]) == (None, "cpu:1", None)


def test_the_tail_of_a_log_starts_with_a_whole_line(tmp_path):
    path = tmp_path / "log"
    assert log_tail(path) == ""
    path.write_text("short\n")
    assert log_tail(path) == "short\n"
    path.write_text("".join(f"line {i} é\n" for i in range(10_000)))
    tail = log_tail(path)
    assert len(tail.encode()) <= 20_000
    assert tail.splitlines()[0].startswith("line ")
    assert tail.endswith("line 9999 é\n")
    path.write_bytes(b"\xff" * 30_000)
    assert len(log_tail(path)) == 20_000


def test_200_runs_queue_in_one_quick_transaction(store):
    before = store.database.changes()
    sweep_id = store.create_sweep("many", {}, [SPEC.with_(seed=i) for i in range(200)])
    assert len(store.runs(sweep_id=sweep_id)) == 200
    assert [run.spec.seed for run in store.runs(sweep_id=sweep_id)] == list(range(200))
    assert store.database.changes() == before + 1


def test_a_second_store_of_one_process_leaves_the_locks_of_the_first(tmp_path):
    """POSIX locks of a file go with any close of it in the process; another one then believed itself to be the last."""
    first = Store(tmp_path)
    assert first.runs() == []
    Store(tmp_path)
    other = (
        "import sys; from cdka.runs.store import Store; from cdka.runs.resolve import spec_for\n"
        "store = Store(sys.argv[1]); store.submit(spec_for('digits-vit', 'digits-flip', components='2,8,1'))\n"
        "store.close()"
    )
    for known in (1, 2):
        subprocess.run([sys.executable, "-c", other, str(tmp_path)], check=True)
        assert len(first.runs()) == known
        assert len(Store(tmp_path).runs()) == known
