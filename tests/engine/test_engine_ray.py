"""A real Ray cluster of a head and two nodes on this machine, real training in its tasks, and everything killed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it when it is imported
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))  # and this once a process
pytest.importorskip("ray", reason="Ray is not installed: pip install 'cdka-studio[ray]'")

import cdka
from cdka.engine import local
from cdka.engine.clusters import known_state, look
from cdka.engine.process import dispatcher_pid
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

LOST_WITHIN_S = 20.0
QUICK = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


def agents() -> dict:
    """Settings of a node: ports that are known before its helpers run, since a busy machine is not waited for."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in names]
        for one in taken:
            one.bind(("", 0))
        ports = [one.getsockname()[1] for one in taken]
    return dict(zip(names, ports, strict=True)) | {"include_log_monitor": False, "object_store_memory": 80_000_000}


class Machines:
    """The cluster: a head without CPUs, and nodes with two each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        health = {f"health_check_{name}": n for name, n in (("period_ms", 1000), ("failure_threshold", 3))}
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, **agents(), "_system_config": health},
        )
        self.nodes = [self.cluster.add_node(num_cpus=2, **agents()) for _ in "AB"]
        self.engine = f"ray:{self.cluster.address}"

    def kill(self, node_id: str) -> None:
        """End a node as a power cut does."""
        node = next(node for node in self.nodes if node.node_id == node_id)
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def machines(tmp_path, monkeypatch):
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # sockets have short names
    for name, value in {**QUICK, "RAY_TMPDIR": folder}.items():
        monkeypatch.setenv(name, value)
    # Ray imports jsonschema, and that a grammar, if there is one, which takes seconds in each of a dozen processes.
    (tmp_path / "rfc3987_syntax.py").write_text("raise ImportError")
    paths = [str(tmp_path), str(Path(cdka.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("CDKA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = Machines()
    yield found
    end_dispatcher(tmp_path / "home")
    found.cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def end_dispatcher(home, number: int = signal.SIGTERM) -> None:
    pid = dispatcher_pid(home)
    if pid:
        forkservers = psutil.Process(pid).children() if number == signal.SIGKILL else []
        os.kill(pid, number)
        for child in forkservers:
            with suppress(psutil.NoSuchProcess):
                if "forkserver" in child.cmdline():
                    child.kill()  # else it starts the next dispatcher by itself
        deadline = time.monotonic() + 20
        while dispatcher_pid(home) == pid and time.monotonic() < deadline:
            time.sleep(0.05)


def until(store: Store, true, limit_s: float = 120.0):
    """The seconds until ``true()``."""
    started = time.monotonic()
    while not true():
        local.ensure_dispatcher(store)
        assert time.monotonic() - started < limit_s, [
            (run.run_id, run.status, run.step, run.error) for run in store.runs()
        ] + local.troubles(store)
        time.sleep(0.1)
    return time.monotonic() - started


def steps_of(store: Store, run_id: str, attempt: int | None = None) -> list[int]:
    return [event["step"] for event in store.events(run_id, kinds=["step"], attempt=attempt)]


def test_a_dispatcher_and_a_node_are_killed_and_every_run_ends_as_it_should(machines, monkeypatch):
    spec = RunSpec(
        "digits-vit",
        "digits-flip",
        components="2,8,1",
        steps=150,
        eval_every=50,
        batch_size=16,
        checkpoint_every=20,
        eval_examples=64,
        test_examples=64,
        engine=machines.engine,
    )
    store = Store()
    with monkeypatch.context() as other:
        other.setenv("RAY_AUTH_TOKEN", "x" * 32)
        with pytest.raises(CdkaError, match="asks for its token"):
            look(store.home, machines.engine)
    a, b, c, bad = store.submit([spec, spec.with_(seed=1), spec.with_(seed=2, steps=100_000), spec.with_(lr=1e30)])
    local.ensure_dispatcher(store)
    until(store, lambda: all(len(steps_of(store, run_id)) > 10 for run_id in (a, b, c)))
    assert {run.status for run in store.runs(ids=[a, b, c])} == {"running"}

    end_dispatcher(store.home, signal.SIGKILL)  # the application: it holds nothing
    before = {run_id: len(store.events(run_id)) for run_id in (a, b, c)}
    attached_s = until(store, lambda: all(len(store.events(run_id)) > before[run_id] for run_id in (a, b, c)))
    assert {run.attempt for run in store.runs(ids=[a, b, c])} == {1}

    store.request_stop(c, keep=False)
    cancelled_s = until(store, lambda: store.run(c).status == "cancelled")
    until(store, lambda: (store.run(b).directory / "checkpoint").is_dir() or store.run(b).status == "done")

    place = {run_id: node for run_id, (_, node) in store.places([a, b]).items()}
    assert store.run(b).status == "running", "the machine is too fast for this test: raise the steps"
    machines.kill(place[b])
    lost_s = until(store, lambda: store.attempts(b)[0]["status"] == "lost")
    until(store, lambda: all(run.status.is_finished() for run in store.runs()), 180)

    told = f"attached {attached_s:.1f} s, cancelled {cancelled_s:.1f} s, lost {lost_s:.1f} s"
    print(told)
    assert lost_s < LOST_WITHIN_S, told
    ended = {run.run_id: run for run in store.runs()}
    assert ended[bad].status == "failed"
    assert "no longer finite" in ended[bad].error
    assert (ended[a].status, ended[b].status, ended[b].attempt) == ("done", "done", 2)
    (resumed,) = store.events(b, kinds=["resumed"], attempt=2)
    assert resumed["step"] >= 20
    assert resumed["step"] % 20 == 0
    assert steps_of(store, b, 2) == list(range(resumed["step"] + 1, 151))
    first = steps_of(store, b, 1)
    assert first == list(range(1, len(first) + 1))
    assert len(first) >= resumed["step"]  # a checkpoint is never ahead of the record
    if place[a] != place[b]:
        assert ended[a].attempt == 1
        assert steps_of(store, a) == list(range(1, 151))
    for run_id in (a, b):
        assert (ended[run_id].adapter_dir / "adapter_config.json").is_file()
        assert [event["seq"] for event in store.events(run_id)] == list(range(len(store.events(run_id))))
    assert store.places([b])[b][1] != place[b]
    state = known_state(store.home, machines.engine)
    assert place[b] not in {node["node"] for node in state["nodes"]}


@pytest.mark.slow
def test_a_cluster_gives_the_numbers_of_this_machine_to_the_last_digit(machines, tmp_path):
    """The same eight runs on this machine and on two nodes."""
    store = Store()
    base = RunSpec("digits-vit", "digits-flip", steps=40, eval_every=20, batch_size=16, components="2,4,1")
    here = [base.with_(seed=seed, components=c) for seed in range(4) for c in ("2,4,1", "1,1,4")]
    there = [one.with_(engine=machines.engine) for one in here]
    ids = store.submit([*here, *there])
    until(store, lambda: all(run.status.is_finished() for run in store.runs()), 280)
    runs = {run.run_id: run for run in store.runs()}
    for mine, its in zip(ids[:8], ids[8:], strict=True):
        assert (runs[mine].status, runs[its].status) == ("done", "done"), (runs[mine].error, runs[its].error)
        losses = [[event["train/loss"] for event in store.events(one, kinds=["step"])] for one in (mine, its)]
        assert losses[0] == losses[1]
        assert runs[mine].metrics["test/loss"] == runs[its].metrics["test/loss"]
