"""Processes that hang, homes that are copied, a disk that is full: told, and mended without anybody looking."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time

import pytest
from ledger import tries

from cdka.engine import local, process
from cdka.runs.states import RunState

LIMIT_S = 4.0
"""In place of a minute; long enough for a loaded machine."""


@pytest.fixture
def impatient(engine, monkeypatch):
    monkeypatch.setenv("FAKE_LIMIT_S", str(LIMIT_S))
    return engine


def unattended(engine, run_ids, s=60.0):
    """The runs once all have ended, with nobody looking after the engine."""
    deadline = time.monotonic() + s
    while True:
        runs = engine.store.runs(ids=run_ids)
        if all(run.status.is_finished() for run in runs):
            return runs
        assert time.monotonic() < deadline, (runs, engine.log(), engine.processes())
        time.sleep(0.05)


def test_a_worker_belongs_to_the_home_that_it_works_in(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    assert process.works_in(os.getpid(), tmp_path)
    assert not process.works_in(os.getpid(), other)
    assert not process.works_in(2**22 + 1, tmp_path), "there is no such process"


@pytest.mark.parametrize("number", tries(1))
def test_a_copied_home_leaves_the_runs_of_the_original_alone(engine, make_engine, tmp_path, number):
    engine.fault("home copied while runs are at work")
    run_ids = engine.submit(*[engine.spec(steps=100_000, pace_s=0.01) for _ in range(2)], engine.spec(steps=3))
    for run_id in run_ids[:2]:
        engine.at_step(run_id, 2 + number)
    shutil.copytree(engine.home, tmp_path / "copy", symlinks=True)
    copy = make_engine(name="copy")
    copy.ensure()
    in_copy = copy.wait(*run_ids)
    assert [run.status for run in in_copy] == ["lost", "lost", "done"], in_copy
    assert "goes on in the original" in in_copy[0].error
    copy.store.retry(run_ids[0])
    copy.until(lambda: copy.store.run(run_ids[0]), lambda run: run.step > 2)
    copy.store.request_stop(run_ids[0], keep=False)
    copy.wait(run_ids[0])
    for run_id in run_ids[:2]:
        assert engine.at_work(run_id)
        engine.store.request_stop(run_id, keep=True)
    runs = engine.wait(*run_ids)
    assert [(run.status, run.attempt) for run in runs] == [("stopped", 1), ("stopped", 1), ("done", 1)], runs
    engine.check()


@pytest.mark.parametrize("number", tries(1))
def test_a_stopped_dispatcher_is_replaced_by_itself(impatient, number):
    engine = impatient
    run_ids = engine.submit(*[engine.spec(steps=30, pace_s=0.01) for _ in range(6)])
    engine.at_step(run_ids[0])
    engine.until(engine.forkservers)
    stopped = engine.dispatcher()
    engine.fault("SIGSTOP of the dispatcher, nobody looking")
    os.kill(stopped, signal.SIGSTOP)
    assert [run.status for run in unattended(engine, run_ids)] == ["done"] * 6
    assert process.process_start(stopped) is None
    engine.check()


@pytest.mark.parametrize("number", tries())
def test_a_stopped_forkserver_is_replaced_by_itself(impatient, number):
    engine = impatient
    (first,) = engine.submit(engine.spec(steps=2))
    engine.wait(first)
    engine.fault("SIGSTOP of the forkserver, nobody looking")
    (forkserver,) = engine.forkservers()
    forkserver.suspend()
    run_ids = engine.submit(*[engine.spec(steps=10, pace_s=0.01) for _ in range(6)])
    assert [run.status for run in unattended(engine, run_ids)] == ["done"] * 6
    assert not forkserver.is_running()
    engine.check()


@pytest.mark.parametrize("number", tries())
def test_a_stopped_worker_is_woken_by_itself_and_a_stop_still_keeps(impatient, number):
    engine = impatient
    done, kept = engine.submit(*[engine.spec(steps=steps, pace_s=0.01) for steps in (60, 100_000)])
    for run_id in (done, kept):
        engine.at_step(run_id)
        engine.fault("SIGSTOP of a worker, nobody looking")
        os.kill(engine.worker_pid(run_id), signal.SIGSTOP)
    engine.store.request_stop(kept, keep=True)
    runs = unattended(engine, [done, kept])
    assert [(run.status, run.attempt) for run in runs] == [("done", 1), ("stopped", 1)]
    engine.check()


@pytest.mark.slow
def test_a_worker_that_cannot_be_woken_is_ended_and_told_as_such(impatient):
    engine = impatient
    (run_id,) = engine.submit(engine.spec(steps=9, act="freeze", at=3))
    engine.fault("hung worker, nobody looking")
    (run,) = unattended(engine, [run_id])
    assert run.status == "lost"
    assert "gave no sign of life for" in run.error
    engine.check()


@pytest.mark.slow
def test_a_long_silence_of_the_training_loop_alone_is_no_hang(impatient):
    """Loading a large model sends no events for minutes; its process lives."""
    engine = impatient
    (run_id,) = engine.submit(engine.spec(steps=2, pace_s=2.5 * LIMIT_S))
    (run,) = unattended(engine, [run_id])
    assert (run.status, run.attempt) == ("done", 1)
    assert not run.log_path.with_suffix(".alive").exists()


@pytest.mark.parametrize("cold", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_interrupt_of_a_worker_reads_as_such(make_engine, cold):
    engine = make_engine("cold-dispatcher" if cold else "dispatcher")
    (run_id,) = engine.submit(engine.spec(steps=4000, pace_s=0.01))
    engine.at_step(run_id)
    os.kill(engine.worker_pid(run_id), signal.SIGINT)
    (run,) = engine.wait(run_id)
    assert (run.status, run.error) == ("lost", "its process was killed with SIGINT. Retry the run.")


@pytest.mark.parametrize("number", tries())
def test_forkservers_killed_while_loading_and_then_the_dispatcher_whoever_waits_revives(engine, monkeypatch, number):
    monkeypatch.setenv("FAKE_LOAD_S", "30")
    run_ids = engine.store.submit([engine.spec(steps=40, pace_s=0.01) for _ in range(6)])
    engine.asked.update(run_ids)
    engine.ensure()
    engine.fault("two forkservers killed while loading, then the dispatcher")
    for _ in range(2):
        (forkserver,) = engine.until(engine.forkservers)
        forkserver.kill()
        engine.until(lambda gone=forkserver: gone.pid not in [p.pid for p in engine.forkservers()])
    engine.at_step(run_ids[0])
    monkeypatch.setenv("FAKE_LOAD_S", "0")
    engine.stop_dispatcher()
    monkeypatch.setattr(local, "UNATTENDED_S", -1.0)
    (trouble,) = local.troubles(engine.store)
    assert re.match(r"nothing moved the queue \(\d runs wait, \d are at work\): it is started again", trouble)
    runs = local.wait(engine.store, run_ids, command=engine.command)
    assert {run.status for run in runs} == {RunState.DONE}
    assert local.troubles(engine.store) == []
    engine.check()


def test_what_hangs_is_told_to_whoever_looks(engine, monkeypatch):
    (run_id,) = engine.submit(engine.spec(steps=4000, pace_s=0.01))
    engine.at_step(run_id)
    assert local.troubles(engine.store) == []
    alive = engine.store.run(run_id).log_path.with_suffix(".alive")
    engine.until(alive.exists)
    os.kill(engine.worker_pid(run_id), signal.SIGSTOP)
    dispatcher = engine.dispatcher()
    for other in engine.forkservers():
        other.suspend()
    os.kill(dispatcher, signal.SIGSTOP)
    hour_ago = time.time() - 3600
    for path in (alive, engine.home / process.LOCK):
        os.utime(path, (hour_ago, hour_ago))
    first, second = local.troubles(engine.store)
    assert first.startswith(f"the dispatcher (process {dispatcher}) has given no sign of life for 3600 s")
    assert second.startswith(f"{run_id} has given no sign of life for 3600 s")
    monkeypatch.setattr(local, "CONFIRM_S", 0.5)
    assert local.ensure_dispatcher(engine.store, command=engine.command), "whoever looks replaces it"
    engine.until(engine.dispatcher, lambda pid: pid not in (None, dispatcher))
    os.kill(engine.worker_pid(run_id), signal.SIGCONT)
    engine.store.request_stop(run_id, keep=False)
    engine.wait(run_id)


def test_a_dispatcher_whose_clock_was_set_is_not_taken_for_hung(engine, monkeypatch):
    (run_id,) = engine.submit(engine.spec(steps=4000, pace_s=0.01))
    engine.at_step(run_id)
    dispatcher = engine.dispatcher()
    monkeypatch.setattr(local, "CONFIRM_S", 2.0)
    real = time.time
    monkeypatch.setattr(local.time, "time", lambda: real() + 7200)
    assert not local.ensure_dispatcher(engine.store, command=engine.command)
    assert engine.dispatcher() == dispatcher
    engine.store.request_stop(run_id, keep=False)
    engine.wait(run_id)
