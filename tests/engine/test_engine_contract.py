"""The contract of engines: one dispatcher over workers of this machine and over a cluster, and nothing else differs."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fake_engine
import pytest

from cdka.engine import clusters, ray_connection
from cdka.engine.clusters import add_problems, check_cluster, clear_words, host_and_port
from cdka.engine.contract import engine_of
from cdka.engine.dispatcher import MAX_ATTEMPTS, Dispatcher
from cdka.engine.local import troubles
from cdka.engine.ray import RayEngine
from cdka.engine.slots import Slot
from cdka.engine.spawn import WorkerStarter
from cdka.errors import CdkaError
from cdka.runs import job_queue
from cdka.runs.database import StoreBusy
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

BRIDGE = (sys.executable, str(Path(__file__).with_name("fake_bridge.py")))
STEPS = 6


def spec(engine: str = "local", **changes) -> RunSpec:
    return RunSpec("digits-vit", "digits-flip", steps=STEPS, eval_every=100, engine=engine, **changes)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """(store, dispatcher) over a home; cluster addresses lead to the fake bridge."""
    monkeypatch.setattr(ray_connection, "RESTART_S", 0.05)
    store = Store(tmp_path)
    starter = WorkerStarter(tmp_path, worker=fake_engine.command("worker"), forkserver=None)
    dispatcher = Dispatcher(store, starter, [Slot("cpu:0", None, 1)], partial(RayEngine, bridge=BRIDGE))
    yield store, dispatcher
    dispatcher.close()
    for engine in dispatcher.engines.values():
        connection = getattr(engine, "_connection", None)
        if connection is not None and connection.process is not None:
            connection.process.kill()
            connection.process.wait()


def work(store: Store, dispatcher: Dispatcher, limit_s: float = 60.0) -> list:
    """The runs once the dispatcher has nothing left to do."""
    deadline = time.monotonic() + limit_s
    while dispatcher.step():
        assert time.monotonic() < deadline, [(run.status, run.error) for run in store.runs()]
        time.sleep(0.01)
    return store.runs()


def steps_of(store: Store, run_id: str) -> list[int]:
    return [event["step"] for event in store.events(run_id, kinds=["step"])]


@pytest.mark.parametrize("engine", ["local", "ray:works:1"])
def test_a_run_ends_with_every_step_once_and_its_adapter(opened, engine):
    store, dispatcher = opened
    (run_id,) = store.submit([spec(engine)])
    (run,) = work(store, dispatcher)
    assert (run.status, run.step, run.metrics["test/accuracy"], run.num_params) == ("done", STEPS, 0.5, 42)
    assert steps_of(store, run_id) == list(range(1, STEPS + 1))
    assert any((run.adapter_dir).iterdir())
    slot, _ = store.places([run_id])[run_id]
    assert engine_of(slot) == engine
    assert slot == ("cpu:0" if engine == "local" else "ray:works:1 box/abcdef cpu")


def test_both_engines_work_for_one_home_at_once_and_neither_waits_for_the_other(opened):
    store, dispatcher = opened
    slow = spec(task_options={"pace_s": 0.5})
    local_id, waiting_id, *cluster_ids = store.submit([slow, slow, *[spec("ray:works:1", seed=n) for n in range(5)]])
    deadline = time.monotonic() + 60
    while any(store.run(one).status != "done" for one in cluster_ids):
        dispatcher.step()
        assert time.monotonic() < deadline
    assert store.run(waiting_id).status == "queued"  # one slot here, and it is taken
    store.request_stop(local_id, keep=False)
    store.request_stop(waiting_id, keep=False)
    work(store, dispatcher)


def test_a_cluster_that_cannot_be_reached_keeps_its_runs_waiting_and_is_told(opened):
    store, dispatcher = opened
    run_id, here = store.submit([spec("ray:refuses:1"), spec()])
    deadline = time.monotonic() + 60
    while store.run(here).status != "done" or not troubles(store):
        dispatcher.step()
        assert time.monotonic() < deadline
    assert store.run(run_id).status == "queued"
    (line,) = [line for line in troubles(store) if "ray:refuses:1" in line]
    assert "nothing does at ray:refuses:1" in line
    assert "1 runs wait" in line


def test_events_that_the_store_refused_for_a_while_are_stored_once(opened, monkeypatch):
    store, dispatcher = opened
    (run_id,) = store.submit([spec("ray:works:1")])
    true, calls = job_queue.record_events, []

    def busy(*arguments):
        calls.append(1)
        if len(calls) in (1, 3):
            raise StoreBusy("the run store is locked")
        return true(*arguments)

    monkeypatch.setattr("cdka.engine.dispatcher.record_events", busy)
    deadline = time.monotonic() + 60
    while store.run(run_id).status != "done":
        assert time.monotonic() < deadline
        try:
            dispatcher.step()
        except StoreBusy:
            time.sleep(0.01)
    assert steps_of(store, run_id) == list(range(1, STEPS + 1))
    assert len(calls) > 3


def test_a_connection_that_falls_silent_is_told_until_it_speaks_again(opened, monkeypatch):
    monkeypatch.setattr(ray_connection, "SILENT_S", 0.5)
    store, dispatcher = opened
    store.submit([spec("ray:hushes:1")])
    told, deadline = [], time.monotonic() + 60
    while dispatcher.step():
        told += troubles(store)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert any("nothing has been heard of the cluster at ray:hushes:1" in line for line in told)
    (run,) = store.runs()
    assert (run.status, run.attempt) == ("done", 1)
    assert steps_of(store, run.run_id) == list(range(1, STEPS + 1))
    assert clusters.known_state(store.home, "ray:hushes:1")["error"] == ""


def test_a_connection_that_breaks_is_made_anew_and_nothing_is_lost_or_doubled(opened):
    store, dispatcher = opened
    run_ids = store.submit([spec("ray:dies:1", seed=n) for n in range(2)])
    runs = work(store, dispatcher)
    assert [run.status for run in runs] == ["done", "done"]
    assert [run.attempt for run in runs] == [1, 1]
    for run_id in run_ids:
        assert steps_of(store, run_id) == list(range(1, STEPS + 1))


def test_a_second_dispatcher_goes_on_from_the_last_event_that_was_stored(opened, tmp_path):
    store, first = opened
    (run_id,) = store.submit([spec("ray:works:1")])
    deadline = time.monotonic() + 60
    while len(store.events(run_id)) < 3:
        first.step()
        assert time.monotonic() < deadline
    first.close()  # as if it were killed: it holds nothing that the store does not have
    starter = WorkerStarter(tmp_path, worker=fake_engine.command("worker"), forkserver=None)
    second = Dispatcher(store, starter, [Slot("cpu:0", None, 1)], partial(RayEngine, bridge=BRIDGE))
    (run,) = work(store, second)
    assert (run.status, run.attempt) == ("done", 1)
    assert steps_of(store, run_id) == list(range(1, STEPS + 1))
    second.close()


def test_a_run_whose_node_died_starts_again_in_a_new_attempt_with_a_fresh_stream(opened):
    store, dispatcher = opened
    (run_id,) = store.submit([spec("ray:loses:1")])
    (run,) = work(store, dispatcher)
    assert (run.status, run.attempt) == ("done", 2)
    first, second = store.attempts(run_id)
    assert (first["status"], second["status"]) == ("lost", "done")
    assert "its node died (NodeDiedError)" in first["error"]
    assert steps_of(store, run_id) == list(range(1, STEPS + 1))
    assert (run.adapter_dir / "weights").read_text() == "2"
    assert MAX_ATTEMPTS > 2


def test_runs_of_a_cluster_that_was_restarted_are_lost_and_told(opened):
    store, dispatcher = opened
    store.submit([spec("ray:forgets:1")])
    (run,) = work(store, dispatcher)
    assert (run.status, run.attempt) == ("lost", 1)
    assert "the cluster was restarted" in run.error


def test_a_pack_is_one_job_on_a_cluster_too(opened):
    store, dispatcher = opened
    run_ids = store.submit([spec("ray:works:1", seed=n) for n in range(3)], packs=[1, 1, 1])
    runs = work(store, dispatcher)
    assert {run.status for run in runs} == {"done"}
    jobs = {store.attempts(run_id)[0]["job_id"] for run_id in run_ids}
    assert len(jobs) == 1


def test_no_more_jobs_are_handed_out_than_the_nodes_have_room_for(opened):
    store, dispatcher = opened
    store.submit([spec("ray:works:1", seed=n) for n in range(5)])
    most, deadline = 0, time.monotonic() + 60
    while dispatcher.step():
        most = max(most, len(dispatcher.engine("ray:works:1").jobs()))
        assert time.monotonic() < deadline
    assert most == 2  # the node of the fake bridge has two cores


def test_a_gpu_that_no_node_has_fails_the_run_and_says_so(opened):
    store, dispatcher = opened
    store.submit([spec("ray:works:1", device="cuda")])
    (run,) = work(store, dispatcher)
    assert run.status == "failed"
    assert "its device (cuda) is on no node of ray:works:1" in run.error


def test_addresses_and_what_is_none():
    assert host_and_port("ray:10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert host_and_port("ray://head:10001") == ("head", 10001)
    assert host_and_port("ray:[::1]:6379") == ("::1", 6379)
    for wrong in ("ray", "ray:", "ray://head", "cluster", "ray:head:6379/x", ""):
        with pytest.raises(CdkaError, match="engine must be auto, local, or a Ray cluster's address"):
            spec(wrong)


def test_auto_is_the_engine_of_the_environment_and_stored_rows_do_not_follow_it(monkeypatch, tmp_path):
    from cdka.runs.resolve import spec_for

    assert spec_for("digits-vit", "digits-flip").engine == "local"
    monkeypatch.setenv("CDKA_ENGINE", "ray:head:6379")
    assert spec_for("digits-vit", "digits-flip").engine == "ray:head:6379"
    assert spec_for("digits-vit", "digits-flip", engine="local").engine == "local"
    old = spec().to_dict()
    del old["engine"]
    assert RunSpec.from_dict(old).engine == "local"


def test_a_dead_address_is_refused_in_seconds_before_anything_is_stored(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cdka-studio[ray]'")
    started = time.monotonic()
    with pytest.raises(CdkaError, match=r"nothing does at ray:127\.0\.0\.1:9"):
        check_cluster(tmp_path, "ray:127.0.0.1:9")
    assert time.monotonic() - started < 5


def test_without_ray_a_cluster_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "find_spec", lambda name: None)
    with pytest.raises(CdkaError, match=r"needs Ray, which is not installed here: got ray:a:1\. Run: pip install"):
        check_cluster(tmp_path, "ray:a:1")


def test_nothing_imports_ray_before_a_cluster_is_asked_for():
    code = (
        "import sys, cdka, cdka.engine.dispatcher, cdka.sweep.launch, cdka.cli.cluster, cdka.cli.run, cdka.cli.studio;"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_versions_that_do_not_match_are_told_of_each_node():
    nodes = [
        {"cpus": 0, "versions": {"cdka": "1.0"}},  # a head that trains nothing needs no torch
        {"cpus": 2, "versions": {"cdka": "1.0", "torch": "2.13"}},
        {"cpus": 2, "versions": {"cdka": "0.9", "torch": "2.13"}},
        {"cpus": 2, "problem": "cdka-studio is not installed there"},
    ]
    add_problems(nodes, "1.0")
    told = [node.get("problem") for node in nodes]
    assert told == [None, None, "has cdka-studio 0.9, and this machine 1.0", "cdka-studio is not installed there"]
    nodes[2]["versions"] = {"cdka": "1.0", "torch": "2.12"}
    add_problems(nodes, "1.0")
    assert nodes[1]["problem"] == "has torch 2.13; the nodes differ: 2.12, 2.13"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AuthenticationError: invalid token", "asks for its token"),
        (
            "RuntimeError: Version mismatch: The cluster was started with: Ray: 2.9.0 Python: 3.11.1",
            "Ray: 2.9.0; Python: 3.11.1",
        ),
        ("ConnectionError: Could not find any running Ray instance", "Join it"),
    ],
)
def test_messages_of_ray_become_one_line_with_a_next_step(text, words):
    assert words in clear_words("ray:a:1", text)
