"""Stores with many runs: pages, counts and searches in SQL, many runs stopped at once, damaged rows among them."""

from __future__ import annotations

import sqlite3
import time

import pytest
from many_runs import SPEC, fill

from cdka.cli.main import main
from cdka.errors import CdkaError
from cdka.runs.job_queue import reserve
from cdka.runs.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "many")
    fill(store, 100)
    return store


def test_a_page_is_cut_out_in_sql(store):
    everyone = [run.run_id for run in store.runs()]
    page = [run.run_id for run in store.runs(newest_first=True, limit=7, offset=3)]
    assert page == everyone[::-1][3:10]
    assert store.count() == 100
    assert store.runs(limit=0) == []
    assert store.counts() == {"done": 100}
    sweep = store.sweeps()[1]
    assert sweep.counts == {"done": 20}
    assert [one.sweep_id for one in store.sweeps(limit=1, offset=1)] == [sweep.sweep_id]
    assert store.count(sweep_id=sweep.sweep_id) == 20
    assert store.count(settings={"model": "digits-vit", "task": "digits-flip"}) == 100
    assert store.count(settings={"model": "digits-vit", "task": "digits"}) == 0
    assert store.count(settings={"seed": 3, "lr": 2e-3}) == 1
    assert store.sweeps(plan={"kind": "grid"}, limit=1)[0].name == "sweep 4"
    assert store.sweeps(plan={"kind": "study"}) == []


def test_runs_are_found_by_the_moment_of_their_submission_and_settings_are_listed_once(store):
    (late,) = store.submit(SPEC.with_(model="math-lm", task="math-chain"))
    at = store.run(late).created_at
    assert [run.run_id for run in store.runs(since=at)] == [late]
    assert (store.count(since=at), store.count(since=at, settings={"task": "digits-flip"}), store.count(since=0)) == (
        1,
        0,
        101,
    )
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET spec = '{' WHERE n = 1")
        sql.execute("UPDATE runs SET spec = '{\"model\": 3}' WHERE n = 2")
    assert store.values_of("model") == ["math-lm", "digits-vit"]
    assert store.values_of("task") == ["math-chain", "digits-flip"]


def test_a_text_is_found_as_it_stands(store):
    (odd,) = store.submit(SPEC.with_(seed=77_123))
    assert [run.run_id for run in store.runs(text="77123")] == [odd]
    assert [run.run_id for run in store.runs(text=odd.upper())] == [odd]
    assert store.count(text="100%") == 0, "a sign of LIKE is a letter here"
    assert store.count(text="digits_flip") == 0
    assert store.count(text="DIGITS-FLIP", status="done") == 100
    assert store.count(text="seed 3 DONE digits-vit 2,8,4") == 5, "one of each sweep"
    assert store.count(text="r1 2 · r2 8 · r 4") == 101
    assert store.count(text="r1 3") == store.count(text="lora 8") == store.count(text="waiting done") == 0
    assert store.count(text="waiting") == 1
    store.describe_sweep(store.sweeps()[2].sweep_id, name="Grüße an Ada", note="für Ada, zum Vortrag")
    assert [sweep.name for sweep in store.sweeps(text="ada grüße vortrag")] == ["Grüße an Ada"]
    assert store.sweeps(text="100%") == []


def test_a_list_reads_no_more_rows_than_it_shows(store, monkeypatch):
    from cdka.runs import store as stores

    read = []
    real = stores.run_of
    monkeypatch.setattr(stores, "run_of", lambda *args: read.append(1) or real(*args))
    monkeypatch.setenv("CDKA_HOME", str(store.home))
    assert main(["runs", "--top", "5"]) == 0
    assert len(read) == 5


def test_sweeps_are_counted_in_one_question(store):
    asked = []
    store.database._reader.set_trace_callback(lambda text: asked.append(text) if text.startswith("SELECT") else None)
    store.sweeps()
    assert len(asked) == 2


def test_more_ids_than_sqlite_has_placeholders(store):
    known = [run.run_id for run in store.runs()]
    assert len(store.runs(ids=[*known, *(f"r-none{i}" for i in range(251_000))])) == 100
    assert list(store.request_stops([*known, *(f"r-none{i}" for i in range(40_000))], keep=False)) == known


def test_500_runs_are_cancelled_in_one_transaction(tmp_path):
    store = Store(tmp_path / "queue")
    run_ids = store.submit([SPEC.with_(seed=i) for i in range(500)])
    began = []
    store.database._writer.set_trace_callback(lambda text: began.append(1) if text.startswith("BEGIN") else None)
    states = store.request_stops(run_ids, keep=False)
    assert len(began) == 1
    assert set(states.values()) == {"cancelled"}
    assert store.counts() == {"cancelled": 500}


DAMAGE = {
    "spec": ["{", "null", "[]", "{}", '{"model": 3}', b"\xff\xfe"],
    "status": ["dancing", "", b"\xff"],
    "metrics": ["{", "", b"\xff"],
    "last_eval": ["{,", b"\xff"],
    "progress": ["nope"],
    "run_id": ["../../etc", "R"],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, some in DAMAGE.items() for value in some])
def test_a_damaged_row_hides_no_other(tmp_path, monkeypatch, capsys, column, value):
    store = Store(tmp_path / "damaged")
    store.create_sweep("whole", {"kind": "grid"}, [SPEC.with_(seed=i) for i in range(3)])
    bad, *others = [run.run_id for run in store.runs()]
    raw = sqlite3.connect(store.database.path)
    raw.execute(f"UPDATE runs SET {column} = CAST(? AS TEXT) WHERE run_id = ?", (value, bad))
    raw.commit()
    raw.close()
    assert [run.run_id for run in store.runs()] == others
    assert len(store.damaged) == 1
    assert store.sweeps()[0].counts.get("queued", 0) >= 2
    monkeypatch.setenv("CDKA_HOME", str(store.home))
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda *args, **more: False)
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert all(run_id in out for run_id in others)
    assert "is damaged and left out" in err
    if column == "run_id":
        return
    assert main(["runs", "show", bad]) == 2
    assert "cdka runs rm" in capsys.readouterr().err
    with pytest.raises(CdkaError, match="is damaged"):
        store.run(bad)
    if column == "spec":  # the queue goes on with the others
        job = reserve(store.database, lambda spec: "cpu:0")
        assert job.runs[0][0] == others[0]
        assert store.counts() == {"cancelled": 1, "starting": 1, "queued": 1}
    store.remove(bad)
    assert store.damaged == {}


def test_damaged_events_and_plans_are_told_in_one_line(store):
    run_id = store.runs()[0].run_id
    with store.database.write() as sql:
        sql.execute("UPDATE events SET body = '{' WHERE n = 1 AND seq = 2")
        sql.execute("UPDATE sweeps SET plan = 'x' WHERE rowid = 1")
    with pytest.raises(CdkaError, match="a record in the run store is damaged"):
        store.events(run_id)
    assert len(store.sweeps()) == 5
    assert list(store.damaged.values()) == ["its plan is no JSON object"]


@pytest.mark.slow
def test_20_000_runs(tmp_path, monkeypatch, capsys):
    """Limits are five times what a quiet machine takes, which the note of the release has."""
    store = Store(tmp_path / "load")
    fill(store, 20_000)
    monkeypatch.setenv("CDKA_HOME", str(store.home))
    took = {}

    def timed(name, act):
        started = time.process_time()
        act()
        took[name] = time.process_time() - started

    timed("cdka runs", lambda: main(["runs"]))
    timed("count", lambda: store.count(status="done"))
    timed("search", lambda: store.count(text="no such text"))
    timed("page", lambda: store.runs(newest_first=True, limit=50, offset=10_000))
    timed("sweeps", lambda: store.sweeps(limit=50))
    waiting = store.submit([SPEC.with_(seed=i) for i in range(500)])
    timed("cancel 500", lambda: store.request_stops(waiting, keep=False))
    capsys.readouterr()
    print(took)
    assert all(seconds < 2.5 for seconds in took.values()), took
