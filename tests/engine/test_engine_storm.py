"""Kills at random moments: of workers, forkservers, the dispatcher, and the program that asked for the runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ledger import tries

from cdka.engine import forkserver, worker
from cdka.engine.slots import JobSpec, Slot

ASK = """
import sys, time
sys.path.insert(0, sys.argv[2])
import fake_engine
from cdka.engine import local
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
store = Store(sys.argv[1])
spec = RunSpec("digits-vit", "digits-flip", steps=15, eval_every=2, task_options={"pace_s": 0.01})
print(*store.submit([spec] * 4), flush=True)
while True:
    local.ensure_dispatcher(store, command=fake_engine.command("dispatcher"))
    time.sleep(0.1)
"""


@pytest.mark.parametrize("seed", tries(1))
def test_random_kills_lose_nothing(engine, seed):
    rng = random.Random(seed)
    run_ids = engine.submit(
        *[engine.spec(steps=30, pace_s=0.01, checkpoint_every=5) for _ in range(6)],
        packs=[0, 0, None, None, None, None],
    )
    killed = set()
    for _ in range(10):
        time.sleep(rng.random() * 0.3)
        engine.ensure()
        kind = rng.choice(["worker", "forkserver", "dispatcher"])
        try:
            if kind == "worker" and (at_work := engine.store.runs(status="running")):
                victim = rng.choice(at_work).run_id
                killed.add(victim)
                engine.fault("random kill -9 of a worker")
                os.kill(engine.worker_pid(victim), signal.SIGKILL)
            elif kind == "forkserver":
                for process in engine.forkservers():
                    engine.fault("random kill -9 of the forkserver")
                    process.kill()
            elif kind == "dispatcher" and (pid := engine.dispatcher()):
                engine.fault("random kill -9 of the dispatcher")
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, psutil.Error):
            continue
    runs = engine.wait(*run_ids)
    assert len(engine.store.runs()) == 6
    engine.check()
    mates = {run_ids[0], run_ids[1]}
    for run in runs:
        assert run.status == "done" or (run.status == "lost" and (run.run_id in killed or killed & mates)), run
    while lost := [run.run_id for run in engine.store.runs(status="lost")]:
        engine.store.retry(lost)
        engine.wait(*run_ids)
    assert {(run.status, run.error) for run in engine.store.runs()} == {("done", None)}
    for run in engine.store.runs():
        steps = engine.store.curves([run.run_id]).query("kind == 'step'")["step"].tolist()
        assert steps == list(range(1, 31)), "the resumed curve has a gap or a step twice"
    engine.check()


@pytest.mark.parametrize("moment", [0.0, *(pytest.param(m, marks=pytest.mark.slow) for m in (0.1, 0.3, 0.6, 1.0))])
def test_runs_go_on_when_the_program_that_asked_is_killed(engine, moment):
    """Stands for a Studio that is killed, with its whole process group, as a terminal does."""
    here = os.path.dirname(__file__)
    asker = subprocess.Popen(
        [sys.executable, "-c", ASK, str(engine.home), here], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    run_ids = asker.stdout.readline().split()
    engine.asked.update(run_ids)
    time.sleep(moment)
    engine.fault("kill -9 of the program that asked")
    os.killpg(asker.pid, signal.SIGKILL)
    asker.wait()
    asker.stdout.close()
    assert len(run_ids) == 4
    runs = engine.wait(*run_ids)  # another program looks in later
    assert [run.status for run in runs] == ["done"] * 4
    assert [run.attempt for run in runs] == [1] * 4 if moment else True
    engine.check()


def test_two_programs_on_one_home_see_the_same(engine):
    here = os.path.dirname(__file__)
    askers = [
        subprocess.Popen([sys.executable, "-c", ASK, str(engine.home), here], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    run_ids = [run_id for asker in askers for run_id in asker.stdout.readline().split()]
    engine.asked.update(run_ids)
    engine.fault("two programs on one home")
    runs = engine.wait(*run_ids)
    for asker in askers:
        asker.kill()
        asker.wait()
        asker.stdout.close()
    assert len(set(run_ids)) == 8
    assert [run.status for run in runs] == ["done"] * 8
    assert [run.attempt for run in runs] == [1] * 8
    engine.check()


def _unattended(engine, run_ids, s=90.0):
    """The runs once all have ended, with nobody looking after the engine."""
    deadline = time.monotonic() + s
    while True:
        runs = engine.store.runs(ids=run_ids)
        if all(run.status.is_finished() for run in runs):
            return runs
        assert time.monotonic() < deadline, (runs, engine.log())
        time.sleep(0.05)


def test_a_night_s_queue_goes_on_when_the_dispatcher_is_killed_and_nobody_looks(engine):
    (first,) = engine.submit(engine.spec(steps=2))
    engine.wait(first)
    run_ids = engine.submit(*[engine.spec(steps=40, pace_s=0.01) for _ in range(6)])
    killed = set()
    for pause in (0.1, 0.6, 0.6):
        time.sleep(pause)
        deadline = time.monotonic() + 20
        while not ((pid := engine.dispatcher()) and pid not in killed and engine.forkservers()):
            assert time.monotonic() < deadline, engine.log()
            time.sleep(0.02)
        killed.add(pid)
        engine.fault("kill -9 of the dispatcher, nobody looking")
        os.kill(pid, signal.SIGKILL)
    assert [run.status for run in _unattended(engine, run_ids)] == ["done"] * 6
    engine.check()


@pytest.mark.parametrize("number", tries(1))
def test_runs_at_work_see_that_the_queue_goes_on_when_everything_else_is_killed_and_nobody_looks(engine, number):
    """Dispatcher and forkserver at once: nobody is left but the workers, one of which starts another dispatcher."""
    run_ids = engine.submit(*[engine.spec(steps=100_000, pace_s=0.01) for _ in range(2)], *[engine.spec(steps=3)] * 4)
    engine.at_step(run_ids[0], 1 + number)
    engine.at_step(run_ids[1])
    forkservers = engine.until(engine.forkservers)
    engine.fault("kill -9 of dispatcher and forkserver at once, nobody looking")
    for pid in (engine.dispatcher(), *(process.pid for process in forkservers)):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (revived := engine.dispatcher()) or not engine.forkservers():
        assert time.monotonic() < deadline, engine.log()
        time.sleep(0.05)
    if (own := Path("/proc/self/oom_score_adj")).exists():
        assert Path(f"/proc/{revived}/oom_score_adj").read_text() == own.read_text()
    engine.store.request_stop(run_ids[0], keep=True)  # makes room for those that wait
    _unattended(engine, run_ids[2:])
    engine.store.request_stop(run_ids[1], keep=True)
    runs = _unattended(engine, run_ids)
    assert [(run.status, run.attempt) for run in runs] == [("stopped", 1)] * 2 + [("done", 1)] * 4
    engine.check()


def test_a_worker_that_has_revived_in_vain_leaves_it_to_whoever_looks(tmp_path, monkeypatch):
    started, parents = [], iter([1, *[2] * 1000])
    monkeypatch.setattr(worker, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(worker.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(worker.process, "dispatcher_was_killed", lambda home: True)
    monkeypatch.setattr(worker.local, "start_dispatcher", lambda home, command: started.append(home) or True)
    job_spec = JobSpec(str(tmp_path), (("r-22222222", 1),), Slot("cpu:0", None, 1))
    job_spec.heartbeat_path.parent.mkdir(parents=True)
    with worker._heartbeat(job_spec, None):
        time.sleep(0.5)
    assert started == [tmp_path] * worker.MAX_REVIVALS


def test_a_dispatcher_that_is_told_to_leave_stays_away_and_its_runs_go_on(engine):
    (run_id, waiting) = engine.submit(*[engine.spec(steps=60, pace_s=0.01, device="cpu")] * 2, packs=None)
    engine.at_step(run_id)
    os.kill(engine.dispatcher(), signal.SIGTERM)
    deadline = time.monotonic() + 20
    while any("worker" not in p.cmdline() and p.pid not in engine.workers() for p in engine.processes()):
        assert time.monotonic() < deadline, engine.processes()
        time.sleep(0.05)
    assert {run.status for run in _unattended(engine, [run_id, waiting])} == {"done"}
    assert engine.dispatcher() is None
    engine.check()


def test_a_dispatcher_that_keeps_dying_is_not_revived_for_ever(engine, monkeypatch):
    engine.store.submit([engine.spec()])
    started = []
    monkeypatch.chdir(engine.home)
    monkeypatch.setenv("CDKA_QUICK_DEATHS", "0")
    monkeypatch.setattr(forkserver.local, "ensure_dispatcher", lambda store, command=None: started.append(1) or True)
    assert [forkserver.restart_dispatcher(1.0) for _ in range(5)] == [True, True, True, False, False]
    assert forkserver.restart_dispatcher(3600.0), "one that has lived long is another matter"
    assert len(started) == 4
