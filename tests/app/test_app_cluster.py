"""Clusters in the Studio: their nodes and troubles beside the runs, and a sweep that chooses where it trains."""

from __future__ import annotations

import html

import pytest

from app.finetune.cluster_panel import engines_of, nodes_html
from app.sweeps import plan_document
from cdka.engine.clusters import known_state, write_state
from cdka.runs import job_queue
from cdka.runs.resolve import spec_for
from cdka.runs.store import Store

ENGINE = "ray:10.0.0.1:6379"
NODES = [
    {"node": "aaaaaa11", "name": "big<box", "address": "10.0.0.1", "cpus": 0, "gpus": 0, "head": True},
    {"node": "bbbbbb22", "name": "second", "address": "10.0.0.2", "cpus": 16, "gpus": 2, "head": False},
]


@pytest.fixture
def idle(monkeypatch):
    """No engine: what is launched stays in the queue."""
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda store: True)


def test_a_cluster_shows_its_nodes_and_the_runs_on_each():
    store = Store()
    write_state(store.home, ENGINE, {"nodes": NODES, "error": ""})
    (run_id, other) = store.submit([spec_for("digits-vit", "digits-flip", engine=ENGINE, seed=n) for n in range(2)])
    job = job_queue.reserve(store.database, lambda spec: ENGINE, engine=ENGINE)
    assert job_queue.claim(store.database, *job.runs[0], (7, "second cpu", "bbbbbb22"), slot=f"{ENGINE} second cpu")
    assert engines_of(store, store.runs()) == [ENGINE]
    drawn = nodes_html(ENGINE, known_state(store.home, ENGINE), store.places([run_id, other]))
    head, second = drawn.split("second/bbbbbb")
    assert "2 nodes" in head
    assert "big&lt;box/aaaaaa (head)" in head
    assert "idle" in head
    assert "2 GPUs, 16 CPU cores" in second
    assert run_id in second
    assert other not in drawn


def test_the_fine_tune_room_tells_what_is_wrong_with_a_cluster(room, idle, monkeypatch):
    store = Store()
    write_state(store.home, ENGINE, {"nodes": NODES, "error": "a cluster must answer: nothing does there."})
    store.submit([spec_for("digits-vit", "digits-flip", engine=ENGINE)])
    told = html.unescape(" ".join(element.value for element in room("finetune").markdown))
    assert "nothing does there" in told
    assert ENGINE in told


def test_nothing_is_said_of_clusters_where_there_is_none(room, idle):
    store = Store()
    store.submit([spec_for("digits-vit", "digits-flip")])
    assert "ray:" not in " ".join(element.value for element in room("finetune").markdown)
    assert "Engine" not in [box.label for box in room("sweeps").selectbox]


def test_a_sweep_chooses_its_engine_and_its_halvings(room, idle):
    write_state(Store().home, ENGINE, {"nodes": NODES, "error": ""})
    app = room("sweeps")
    (box,) = [box for box in app.selectbox if box.label == "Engine"]
    assert box.options[:2] == ["this machine", ENGINE]
    box.set_value(ENGINE).run()
    (field,) = [field for field in app.number_input if field.label == "Halvings"]
    field.set_value(1).run()
    assert not app.exception
    shown = " ".join(element.value for element in [*app.code, *app.markdown])
    assert ENGINE in shown


def test_halving_and_engine_stand_in_the_plan_file_and_the_command():
    arguments = {
        "name": "halved",
        "model": "digits-vit",
        "task": "digits-flip",
        "seeds": 2,
        "halving": 2,
        "settings": {"steps": 80, "eval_every": 20, "engine": ENGINE},
        "grid": {"r1": [1], "r2": [1, 2, 4], "r": [1]},
    }
    again = plan_document.read(plan_document.toml(arguments).encode())
    planned = plan_document.planned(again)
    assert planned.document["halving"]["levels"] == [20, 40]
    assert {spec.engine for spec in planned.specs} == {ENGINE}
    assert planned.specs == plan_document.planned(arguments).specs
    command = plan_document.command(arguments)
    assert "--halving 2" in command
    assert f"--engine {ENGINE}" in command
