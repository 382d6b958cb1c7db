"""A home and a bundle that 0.1.0 wrote open with nothing lost, and runs at work at the upgrade end as they would have.

``tests/data/README.md`` tells how they were made; ``home-0.1.0.json.gz`` is what 0.1.0 itself read from them.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import tarfile
import time
from pathlib import Path

import pandas as pd
import pytest

from cdka.cli.main import main
from cdka.compare.bundle import imported_bundle, open_bundle
from cdka.engine import local
from cdka.models.catalogue import name_today
from cdka.runs.database import FILE_NAME, StoreUnreadable
from cdka.runs.job_queue import claim, record_events, reserve, stop_requests
from cdka.runs.metrics import OLD_NAMES
from cdka.runs.schema import SCHEMA_VERSION
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store

DATA = Path(__file__).parents[1] / "data"
BEFORE = json.loads(gzip.decompress((DATA / "home-0.1.0.json.gz").read_bytes()))
MADE = BEFORE["made"]


@pytest.fixture
def old(home, monkeypatch):
    """A home as 0.1.0 left it; nothing here starts an engine by itself."""
    with tarfile.open(DATA / "home-0.1.0.tar.gz") as tar:
        tar.extractall(home, filter="data")
    monkeypatch.setattr(local, "ensure_dispatcher", lambda *args, **more: False)
    return home


def now_called(metrics: dict) -> dict:
    return {OLD_NAMES.get(name, name): value for name, value in metrics.items()}


def cdka_json(capsys, *arguments: str):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def of_today(settings: dict) -> dict:
    """The settings of a run of 0.1.0, whose digits-vit is another checkpoint today."""
    return {**settings, "model": name_today(settings["model"], "0.1.0")}


def without_nan(values) -> list:
    return [None if pd.isna(value) else value for value in values]


def test_every_run_attempt_event_log_and_sweep_is_there(old, capsys):
    store = Store(old)
    runs = {run["run_id"]: run for run in cdka_json(capsys, "runs", "list", "--top", "0")["runs"]}
    assert len(runs) == len(BEFORE["runs"]) == 72
    for was in BEFORE["runs"]:
        now = runs[was["run_id"]]
        for key, value in was.items():
            if key == "last_eval":
                renamed = {"accuracy": "eval/accuracy", "loss": "eval/loss"}
                value = {renamed.get(name, name): point for name, point in value.items() if name != "split"}
            if key == "metrics":
                assert now[key] == {**value, **now_called(value)}, "the old names are still in the JSON"
            elif key == "spec":
                assert {name: now[key][name] for name in value} == of_today(value)
            elif isinstance(value, str) and value.startswith("HOME"):
                assert now[key] == value.replace("HOME", str(old))
            else:
                assert now[key] == value, key
    for run_id in runs:
        assert store.attempts(run_id) == BEFORE["attempts"][run_id]
        assert store.log(run_id) == BEFORE["logs"][run_id]
        kinds = BEFORE["events"][run_id]
        assert {kind: len(store.events(run_id, kinds=[kind])) for kind in kinds} == kinds
        assert len(store.events(run_id)) == sum(kinds.values())
    for sweep_id, was in BEFORE["sweeps"].items():
        sweep = store.sweep(sweep_id)
        assert {"name": sweep.name, "counts": sweep.counts, "plan": sweep.plan} == was


def test_frames_curves_and_predictions_hold_every_number(old):
    store = Store(old)
    for was, now in zip(BEFORE["frame"], store.frame().to_dict("records"), strict=True):
        for key, value in of_today(now_called(was)).items():
            if value is None:
                assert pd.isna(now[key]), key
            elif isinstance(value, float):
                assert now[key] == pytest.approx(value, rel=1e-14), key  # pandas' own JSON rounds the last digit
            else:
                assert now[key] == value, key
    curves = store.curves(BEFORE["curves"])
    by_kind = {"step": {"loss": "train/loss"}, "eval": {"accuracy": "eval/accuracy", "loss": "eval/loss"}}
    for (run_id, kind), rows in curves.groupby(["run_id", "kind"]):
        for column, values in BEFORE["curves"][run_id][kind].items():
            if column in ("accuracy", "loss") and column not in by_kind[kind]:
                assert set(values) == {None}
            else:
                assert without_nan(rows[by_kind[kind].get(column, column)].tolist()) == values, (run_id, column)
    for run_id, was in BEFORE["predictions"].items():
        now = store.predictions(run_id)
        assert list(now.columns) == list(was)
        assert all(without_nan(now[column]) == without_nan(was[column]) for column in was)
    assert all(store.predictions(run.run_id).empty for run in store.runs() if run.run_id not in BEFORE["predictions"])


WORDS = ("text", "needs", "interval", "test", "missing", "ladders", "arm")
"""What a later version may word otherwise; the numbers it may not change."""


def differences(was, now, path: str = "") -> list[str]:
    """The places where ``now`` says something else than ``was``; it may say more."""
    if isinstance(was, dict):
        told = {key: value for key, value in was.items() if key not in WORDS}
        return [line for key, value in told.items() for line in differences(value, now.get(key), f"{path}/{key}")]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}/{i}")]
    return [] if was == now else [f"{path}: {was!r}, now {now!r}"]


def test_comparisons_say_the_same_under_the_short_and_the_new_names(old, capsys):
    asked = {
        "accuracy": [[], ["--metric", "accuracy"], ["--metric", "test/accuracy"]],
        "loss": [["--metric", "loss"], ["--metric", "eval/loss"]],
        "best accuracy": [["--aggregation", "best"], ["--aggregation", "best", "--metric", "eval/accuracy"]],
        "best loss": [["--aggregation", "best", "--metric", "loss"]],
        "accuracy at step 12": [["--step", "12"], ["--step", "12", "--metric", "eval/accuracy"]],
    }
    metrics = {"accuracy": "test/accuracy", "loss": "eval/loss", "best loss": "eval/loss"}
    for sweep_id, found in BEFORE["compare"].items():
        place = str(DATA / "bundle-0.1.0.zip") if sweep_id == "bundle" else sweep_id
        for name, was in found.items():
            for arguments in asked[name]:
                now = cdka_json(capsys, "compare", place, *arguments)
                assert now.pop("metric") == metrics.get(name, "eval/accuracy")
                was = was | {part: [of_today(row) for row in was[part]] for part in ("arms", "trends")}
                assert not differences({key: value for key, value in was.items() if key != "metric"}, now), arguments


def test_a_study_is_judged_as_before(old):
    from cdka.claims.judge import judge

    store = Store(old)
    for sweep_id, was in BEFORE["findings"].items():
        now = [finding.to_dict() for finding in judge(store, store.sweep(sweep_id))]
        for found, before in zip(now, was, strict=True):
            reworded = ("metric", "sentence", "claim")  # what is compared, the words of the verdict and of the claim
            kept = {key: value for key, value in before.items() if key not in reworded}
            assert {key: found[key] for key in kept} == kept
            assert found["metric"] == "test/accuracy"


def test_bundles_learn_progress_and_align_records_are_read(old):
    from app.learn import progress
    from cdka.align.record import AlignRecord

    (name,) = [path.name for path in (old / "bundles").iterdir()]
    bundle = imported_bundle(old, name)
    assert bundle.manifest == open_bundle(DATA / "bundle-0.1.0.zip").manifest
    assert len(bundle.frame()) == 15
    assert bundle.measure().metric == "test/accuracy"
    kept = progress.load()
    assert (kept.of(1).pages, kept.of(1).best, kept.of(1).tries) == ({0, 1}, 70, 2)
    (record,) = (old / "align").glob("record-*.json")
    assert len(AlignRecord.read(record).overall) == 8


def test_the_file_is_copied_before_it_is_upgraded_and_once(old):
    before = (old / FILE_NAME).read_bytes()
    Store(old).close()
    copy = old / "runs-schema1.sqlite3"
    with sqlite3.connect(copy) as was, sqlite3.connect(old / FILE_NAME) as now:
        assert was.execute("PRAGMA user_version").fetchone() == (1,)
        assert now.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert was.execute("SELECT count(*) FROM events").fetchone() == (
            now.execute("SELECT count(*) FROM events").fetchone()
        )
    stamp = copy.stat().st_mtime_ns
    Store(old).close()
    assert copy.stat().st_mtime_ns == stamp
    shutil.copy(copy, old / FILE_NAME)  # the way back: put the copy in its place
    with sqlite3.connect(old / FILE_NAME) as restored:
        assert restored.execute("SELECT name FROM pragma_table_info('runs')").fetchall() == (
            _columns(before, old / "was.sqlite3")
        )


def _columns(content: bytes, path: Path) -> list:
    path.write_bytes(content)
    with sqlite3.connect(path) as file:
        return file.execute("SELECT name FROM pragma_table_info('runs')").fetchall()


def test_an_upgrade_that_fails_changes_nothing(old, monkeypatch):
    from cdka.runs import database

    def broken(sql):
        sql.execute("UPDATE events SET body = 'gone'")
        raise RuntimeError("killed in the middle")

    monkeypatch.setattr(database, "MIGRATIONS", {1: broken})
    with pytest.raises(RuntimeError):
        Store(old)
    monkeypatch.undo()
    with sqlite3.connect(old / FILE_NAME) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
        assert file.execute("SELECT count(*) FROM events WHERE body = 'gone'").fetchone() == (0,)
    assert len(Store(old).runs()) == 72


@pytest.mark.parametrize("version", range(2, SCHEMA_VERSION))
def test_a_file_of_every_version_between_is_upgraded_as_well(old, monkeypatch, version):
    from cdka.runs import database

    monkeypatch.setattr(database, "SCHEMA_VERSION", version)
    database.Database(old / FILE_NAME).close()  # as that version left it
    monkeypatch.undo()
    with sqlite3.connect(old / FILE_NAME) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (version,)
        events = file.execute("SELECT * FROM events").fetchall()
    runs = {run["run_id"]: run for run in BEFORE["runs"]}
    for run in Store(old).runs():
        assert run.metrics == now_called(runs[run.run_id]["metrics"])
        assert run.status == runs[run.run_id]["status"]
    assert (old / f"runs-schema{version}.sqlite3").is_file()
    with sqlite3.connect(old / FILE_NAME) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert file.execute("SELECT * FROM events").fetchall() == events


def test_an_upgraded_home_has_the_tables_of_a_new_one(old, tmp_path):
    upgraded = Store(old)
    for run in upgraded.runs():
        if run.status.is_live():
            with upgraded.database.write() as sql:
                sql.execute("UPDATE runs SET status = 'lost' WHERE run_id = ?", (run.run_id,))
    upgraded.close()
    upgraded, new = Store(old), Store(tmp_path / "new")  # no worker of 0.1.0 is left to be served

    def tables(store):
        with store.database.read() as sql:
            names = sql.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
            return {
                tuple(item): sorted(map(repr, (tuple(row)[1:] for row in sql.execute(f"PRAGMA table_info({item[1]})"))))
                for item in names
            }

    assert tables(upgraded) == tables(new)


def test_a_file_of_ours_without_a_version_is_refused_and_left_alone(old):
    with sqlite3.connect(old / FILE_NAME) as file:
        file.execute("PRAGMA user_version = 0")
    file.close()
    before = (old / FILE_NAME).read_bytes()
    with pytest.raises(StoreUnreadable, match="has no version: expected schema 1 to") as refusal:
        Store(old)
    assert "\n" not in str(refusal.value)
    assert (old / FILE_NAME).read_bytes() == before


# What a worker of 0.1.0 executes (cdka/runs/transitions.py of that version), word for word.
OLD_CLAIM = (
    "UPDATE runs SET status = 'running', phase = 'loading', heard_at = ?"
    " WHERE run_id = ? AND attempt = ? AND status = 'starting'"
)
OLD_STOPS = "SELECT stop FROM runs WHERE run_id = ? AND attempt = ? AND status IN ('starting', 'running', 'stopping')"
OLD_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"
OLD_STEP = '{"kind":"step","step":9,"lr":0.001,"samples":576,"elapsed_s":0.9,"loss":0.25,"grad_norm":1.0}'
OLD_EVAL = '{"kind":"eval","split":"validation","step":9,"accuracy":0.5,"loss":0.75,"examples":300,"elapsed_s":0.9}'
OLD_METRICS = (
    '{"accuracy":0.625,"test_loss":0.5,"validation_accuracy":0.5,"best_validation_accuracy":0.5,"steps_done":9}'
)


def test_a_worker_of_0_1_0_that_is_still_at_work_goes_on_writing(old):
    """It holds the file open across the upgrade: what it writes is stored under today's names, and it hears a stop."""
    path = old / FILE_NAME
    worker = sqlite3.connect(path, isolation_level=None)
    run_id = MADE["at-work-checkpoint"]
    n, attempt = worker.execute("SELECT n, attempt FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    worker.execute(OLD_STOPS, (run_id, attempt)).fetchone()
    store = Store(old)
    assert store.request_stop(run_id, keep=True) == RunState.STOPPING
    assert worker.execute(OLD_STOPS, (run_id, attempt)).fetchone() == ("keep",)
    assert stop_requests(store.database, [(run_id, attempt)]) == ["keep"]
    worker.execute("BEGIN IMMEDIATE")
    for seq, (kind, body) in enumerate((("step", OLD_STEP), ("eval", OLD_EVAL)), start=900):
        worker.execute(OLD_EVENT, (n, attempt, seq, kind, 5.0, body))
    worker.execute("UPDATE runs SET heard_at = ?, step = ?, last_eval = ? WHERE n = ?", (7.0, 9, OLD_EVAL, n))
    worker.execute("COMMIT")
    run = store.run(run_id)
    assert (run.step, run.heartbeat_at) == (9, 7.0)
    assert (run.last_eval["eval/accuracy"], run.last_eval["eval/loss"]) == (0.5, 0.75)
    last = store.curves([run_id]).iloc[-2:]
    assert last["train/loss"].iloc[0] == 0.25
    assert (last["eval/accuracy"].iloc[1], last["eval/loss"].iloc[1]) == (0.5, 0.75)
    final = f'{{"kind":"final","stopped":true,"metrics":{OLD_METRICS}}}'
    worker.execute("BEGIN IMMEDIATE")
    worker.execute(OLD_EVENT, (n, attempt, 902, "final", 6.0, final))
    worker.execute(
        "UPDATE runs SET heard_at = ?, metrics = ?, status = ?, finished_at = ?, worked_s = ?, phase = ?, stop = ?"
        " WHERE n = ?",
        (8.0, OLD_METRICS, "stopped", 8.0, 3.0, None, None, n),
    )
    worker.execute("COMMIT")
    run = store.run(run_id)
    assert (run.status, run.stop_requested) == (RunState.STOPPED, None)
    assert run.metrics == now_called(json.loads(OLD_METRICS))
    assert store.events(run_id, kinds=["final"])[0]["metrics"] == run.metrics
    worker.close()


def test_a_job_that_a_worker_of_0_1_0_takes_up_after_the_upgrade_is_running(old):
    worker = sqlite3.connect(old / FILE_NAME, isolation_level=None)
    store = Store(old)
    worker.execute(OLD_CLAIM, (9.0, MADE["at-work-unclaimed"], 1))
    run = store.run(MADE["at-work-unclaimed"])
    assert (run.status, run.heartbeat_at) == (RunState.RUNNING, 9.0)
    worker.close()


def test_what_this_version_writes_is_not_translated_again(old):
    from cdka.runs.events import Evaluated, Final, Step
    from cdka.runs.job_queue import Batch

    store = Store(old)
    (run_id,) = store.submit([RunSpec("digits-vit", "digits-flip")])
    store.prioritise(run_id)
    assert reserve(store.database, lambda spec: "cpu:0").runs == ((run_id, 1),)
    assert claim(store.database, run_id, 1, (1, "s", "b"))
    evaluated = Evaluated(step=1, metrics={"eval/accuracy": 0.5, "eval/loss": 0.25})
    sent = [Step(step=1, loss=0.5), evaluated, Final(metrics={"test/accuracy": 0.75, "eval/f1": 0.5})]
    record_events(store.database, [Batch(run_id, 1, 0, sent)])
    stored = [{k: v for k, v in event.items() if k not in ("seq", "at")} for event in store.events(run_id)]
    assert stored == [event.to_dict() for event in sent]
    assert store.run(run_id).metrics == {"test/accuracy": 0.75, "eval/f1": 0.5}


@pytest.mark.slow
def test_runs_at_work_at_the_upgrade_end_as_they_would_have(home):
    """With real processes: the interrupted are lost or cancelled, the waiting train, and a retry resumes."""
    with tarfile.open(DATA / "home-0.1.0.tar.gz") as tar:
        tar.extractall(home, filter="data")
    store = Store(home)
    names = ("at-work-checkpoint", "at-work-cancelled", "at-work-unclaimed", "queued")

    def wait(*waited: str) -> None:
        deadline = time.monotonic() + 300
        while not all(store.run(MADE[name]).status.is_finished() for name in waited):
            assert time.monotonic() < deadline, [store.run(MADE[name]) for name in waited]
            local.ensure_dispatcher(store)
            time.sleep(0.1)

    wait(*names)
    ended = {name: store.run(MADE[name]) for name in names}
    store.retry(MADE["at-work-checkpoint"])
    wait("at-work-checkpoint")
    ended["at-work-checkpoint retried"] = store.run(MADE["at-work-checkpoint"])
    (resumed,) = store.events(MADE["at-work-checkpoint"], kinds=["resumed"])
    for name, was in BEFORE["afterwards"].items():
        assert ended[name].status == was["status"], name
        for metric, value in now_called(was["metrics"]).items():
            assert ended[name].metrics[metric] == pytest.approx(value, abs=1e-3), (name, metric)
    assert resumed["step"] == BEFORE["afterwards"]["at-work-checkpoint retried"]["resumed"] == 20
    pid = local.dispatcher_pid(store.home)
    if pid:
        import os
        import signal

        os.kill(pid, signal.SIGTERM)
