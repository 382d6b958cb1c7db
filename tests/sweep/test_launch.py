"""Every run starts through one call: it is resolved, checked, packed and queued, and the engine is at work."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdka.errors import CdkaError
from cdka.paths import assets_dir
from cdka.runs.resolve import spec_for
from cdka.runs.store import Store
from cdka.sweep import forecast as forecasting
from cdka.sweep import launch as launching
from cdka.sweep.launch import launch_runs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(monkeypatch):
    """The stores for which a dispatcher was asked; none is started."""
    stores = []
    monkeypatch.setattr(launching.local, "ensure_dispatcher", stores.append)
    return stores


def specs(**changes):
    return [spec_for("digits-vit", "digits-flip", components="2,8,1", seed=seed, **changes) for seed in range(4)]


def test_launched_runs_are_packed_and_worked_on(tmp_path, started):
    store = Store(tmp_path)
    run_ids = launch_runs(specs(), store)
    assert [run.run_id for run in store.runs()] == run_ids
    assert len({run.pack_id for run in store.runs()} - {None}) >= 1
    assert all(run.pack_id for run in store.runs()), "seeds of one configuration train together"
    assert started == [store]


def test_the_same_request_launches_once(tmp_path, started):
    store = Store(tmp_path)
    assert launch_runs(specs(), store, request_id="a") == launch_runs(specs(), store, request_id="a")
    assert len(store.runs()) == 4


def test_nothing_is_stored_where_one_run_cannot_work(tmp_path, started):
    store = Store(tmp_path)
    with pytest.raises(CdkaError, match="device must be one that this machine has"):
        launch_runs([*specs(), *specs(device="cuda:7")], store)
    assert store.runs() == []
    assert started == []


def test_what_cannot_fit_the_memory_by_far_is_refused(tmp_path, started, monkeypatch):
    monkeypatch.setattr(forecasting.psutil, "virtual_memory", lambda: SimpleNamespace(total=8 << 30, available=4 << 30))
    llama = spec_for("llama-2-7b", "local-instruct", task_options={"data": "rows.csv"}, device="cpu")
    with pytest.raises(CdkaError, match=r"needs about \d+ GB at batch size 16, and this machine has 9 GB"):
        launch_runs([llama], Store(tmp_path))
    assert started == []
    assert launch_runs(specs(device="cpu"), Store(tmp_path))


def test_a_relative_model_folder_reaches_the_worker_as_an_absolute_one(tmp_path, started, monkeypatch):
    monkeypatch.chdir(assets_dir().parent)
    folder = assets_dir().relative_to(Path.cwd()) / "digits-vit"
    (run_id,) = launch_runs([specs()[0].with_(model=f"./{folder}")], Store(tmp_path))
    assert Store(tmp_path).run(run_id).spec.model == str(assets_dir() / "digits-vit")


def test_no_other_room_queues_runs():
    """``Store.submit`` and ``Store.create_sweep`` have one caller beside the benchmarks, which queue without a wait."""
    callers = set()
    for file in [*ROOT.glob("cdka/**/*.py"), *ROOT.glob("app/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if called in ("submit", "create_sweep"):
                callers.add(str(file.relative_to(ROOT)))
    callers.remove("cdka/engine/dispatcher.py")  # hands a job that is reserved to its engine
    assert callers - {"cdka/bench/app.py", "app/learn/live.py"} == {"cdka/sweep/launch.py"}
