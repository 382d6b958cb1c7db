"""Faults on purpose. After each: no run lost from the record, no event twice or missing, no orphan, no half adapter."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time

import psutil
import pytest

from cdka.engine.process import process_start


def test_a_run_goes_through_and_leaves_a_whole_record(engine):
    (run_id,) = engine.submit(engine.spec(steps=7))
    (run,) = engine.wait(run_id)
    assert run.status == "done"
    assert run.metrics == {"test/accuracy": 0.5, "steps_done": 7}
    assert run.num_params == 42
    assert run.attempt == 1
    kinds = [event["kind"] for event in engine.store.events(run_id)]
    assert kinds.count("step") == 7
    assert kinds.count("eval") == kinds.count("memory") == 3, "memory is told while the run is at work"
    assert kinds[-1] == "final"
    assert run.peak_bytes > 1_000_000
    assert engine.store.predictions(run_id)["predicted"].isna().tolist() == [False, True]
    engine.check()


@pytest.mark.parametrize("act", ["raise", "memory", "exit", "segfault", "child"])
def test_a_failure_is_told_in_one_line(engine, act):
    fault = {
        "raise": "exception",
        "memory": "out of memory",
        "exit": "exit without a word",
        "segfault": "crash of the worker",
        "child": "kill -9 of a worker with children",
    }
    engine.fault(fault[act])
    (run_id,) = engine.submit(engine.spec(steps=50, act=act, at=3))
    (run,) = engine.wait(run_id)
    expected = {
        "raise": ("failed", "ValueError: the teapot is empty"),
        "memory": ("failed", "out of memory"),
        "exit": ("failed", "ended with exit code 7"),
        "segfault": ("failed", "crashed with SIGSEGV"),
        "child": ("lost", "killed with SIGKILL"),
    }[act]
    assert run.status == expected[0]
    assert expected[1] in run.error
    assert "\n" not in run.error
    if act == "raise":
        assert "Traceback" in engine.store.log(run_id)
        assert [event["kind"] for event in engine.store.events(run_id)][-1] == "failed"
    if act == "memory":
        assert "batch_size (now 64" in run.error
    engine.check()
    left = [p for p in engine.processes() if "time.sleep(600)" in " ".join(p.cmdline())]
    assert left == [], "a worker's child outlived it"


def test_kill_of_the_worker_at_several_moments_then_retry(engine):
    for step in (1, 4, 9):
        (run_id,) = engine.submit(engine.spec(steps=400, pace_s=0.01))
        engine.at_step(run_id, step)
        engine.fault("kill -9 of the worker")
        os.kill(engine.worker_pid(run_id), signal.SIGKILL)
        (run,) = engine.wait(run_id)
        assert run.status == "lost"
        assert "SIGKILL" in run.error
        assert run.step >= step
    ended = engine.store.events(run_id, attempt=1)
    engine.remove(run_id)
    others = [other.run_id for other in engine.store.runs()]
    assert len(ended) > 9
    assert len(others) == 2
    (again,) = engine.submit(engine.spec(steps=400, pace_s=0.01))
    engine.at_step(again)
    engine.fault("kill -9 of the worker")
    os.kill(engine.worker_pid(again), signal.SIGKILL)
    engine.wait(again)
    before = engine.store.events(again)
    engine.store.retry(again)
    run = engine.until(lambda: engine.store.run(again), lambda r: r.attempt == 2 and r.step > 2)
    assert engine.store.events(again)[0]["seq"] == 0, "a retry has a stream of its own"
    assert engine.store.events(again, attempt=1) == before
    engine.store.request_stop(again, keep=True)
    (run,) = engine.wait(again)
    assert run.status == "stopped"
    assert run.metrics["steps_done"] < 400
    engine.check()


def test_kill_of_the_dispatcher_at_several_moments_loses_nothing(engine):
    run_ids = engine.submit(*[engine.spec(steps=15, pace_s=0.01) for _ in range(6)])
    for pause in (0.0, 0.05, 0.1, 0.3, 0.3):
        engine.ensure()
        pid = engine.until(engine.dispatcher)
        time.sleep(pause)
        engine.fault("kill -9 of the dispatcher")
        os.kill(pid, signal.SIGKILL)
    runs = engine.wait(*run_ids)
    assert [run.status for run in runs] == ["done"] * 6
    engine.check()


def test_kill_of_the_forkserver_at_several_moments_loses_nothing(engine):
    (first,) = engine.submit(engine.spec(steps=3))
    engine.wait(first)
    assert engine.forkservers(), "workers should come from a forkserver here"
    run_ids = engine.submit(*[engine.spec(steps=20, pace_s=0.01) for _ in range(5)])
    for pause in (0.0, 0.02, 0.1, 0.3):
        time.sleep(pause)
        for process in engine.forkservers():
            engine.fault("kill -9 of the forkserver")
            process.kill()
    runs = engine.wait(*run_ids)
    assert [run.status for run in runs] == ["done"] * 5, [run.error for run in runs]
    engine.check()


def test_cold_workers_do_the_same_when_forkservers_cannot_live(make_engine):
    engine = make_engine("broken-dispatcher")
    engine.fault("forkserver that cannot start")
    run_ids = engine.submit(*[engine.spec(steps=3) for _ in range(3)])
    assert [run.status for run in engine.wait(*run_ids)] == ["done"] * 3
    assert engine.forkservers() == []
    engine.check()


def test_kill_of_everything_at_once_is_a_reboot_without_one(engine):
    run_ids = engine.submit(*[engine.spec(steps=300, pace_s=0.01) for _ in range(4)])
    engine.at_step(run_ids[0])
    engine.at_step(run_ids[1])
    engine.fault("kill -9 of everything at once")
    engine.stop()
    states = {run.run_id: run.status for run in engine.store.runs()}
    assert [states[run_id] for run_id in run_ids] == ["running", "running", "queued", "queued"]
    engine.until(lambda: engine.store.runs(status="lost"), lambda runs: len(runs) == 2)
    for run_id in run_ids[2:]:
        engine.at_step(run_id)
        engine.store.request_stop(run_id, keep=False)
    assert [run.status for run in engine.wait(*run_ids)] == ["lost", "lost", "cancelled", "cancelled"]
    assert all("left no report" in run.error for run in engine.store.runs(status="lost"))
    engine.check()


def test_a_restart_of_the_machine_is_recognised(engine):
    (run_id,) = engine.submit(engine.spec(steps=300, pace_s=0.01))
    engine.at_step(run_id)
    engine.fault("reboot (another boot id)")
    engine.stop()
    with engine.store.database.write() as sql:
        sql.execute("UPDATE attempts SET boot_id = 'another boot', pid = ?, process_start = '1'", (os.getpid(),))
    engine.ensure()
    (run,) = engine.wait(run_id)
    assert run.status == "lost"
    assert "restarted" in run.error
    engine.check()


def test_a_pid_that_was_given_to_another_process_is_not_taken_for_the_worker(engine):
    (run_id,) = engine.submit(engine.spec(steps=300, pace_s=0.01))
    engine.at_step(run_id)
    engine.fault("pid given to another process")
    engine.stop()
    with engine.store.database.write() as sql:
        sql.execute("UPDATE attempts SET pid = ?", (os.getpid(),))
    engine.ensure()
    assert engine.wait(run_id)[0].status == "lost"
    engine.check()


def test_a_hanging_worker_is_cancelled_by_force_and_frees_its_slot(engine):
    engine.fault("hanging worker", 2)
    hanging = [engine.spec(steps=9, act="hang", at=2) for _ in range(2)]
    run_ids = engine.submit(*hanging, engine.spec(steps=3))
    for run_id in run_ids[:2]:
        engine.training(run_id)
    pids = [engine.worker_pid(run_id) for run_id in run_ids[:2]]
    assert engine.store.run(run_ids[2]).status == "queued"
    started = time.monotonic()
    for run_id in run_ids[:2]:
        assert engine.store.request_stop(run_id, keep=True) == "stopping"
        assert engine.store.request_stop(run_id, keep=False) == "stopping"
    runs = engine.wait(*run_ids)
    assert [run.status for run in runs] == ["cancelled", "cancelled", "done"]
    assert time.monotonic() - started > 2.5, "SIGTERM is ignored there: only SIGKILL ends it"
    assert not any(psutil.pid_exists(pid) for pid in pids)
    engine.check()


def test_a_cancel_is_quick_and_a_stop_keeps(engine):
    cancelled, kept = engine.submit(*[engine.spec(steps=4000, pace_s=0.01) for _ in range(2)])
    engine.at_step(cancelled)
    engine.at_step(kept)
    engine.store.request_stop(cancelled, keep=False)
    engine.store.request_stop(kept, keep=True)
    runs = engine.wait(cancelled, kept)
    assert [run.status for run in runs] == ["cancelled", "stopped"]
    assert runs[1].metrics["steps_done"] == runs[1].step < 4000
    engine.check()


def test_two_dispatchers_on_one_home_share_nothing(engine):
    run_ids = engine.store.submit([engine.spec(steps=10, pace_s=0.005) for _ in range(6)])
    engine.asked.update(run_ids)
    engine.fault("several dispatchers on one home")
    for _ in range(4):  # four Studios notice the queue at the same moment
        subprocess.Popen([*engine.command, str(engine.home)], cwd=engine.home, start_new_session=True)
    runs = engine.wait(*run_ids)
    assert [run.status for run in runs] == ["done"] * 6
    assert [run.attempt for run in runs] == [1] * 6, "a run was started twice"
    engine.until(lambda: [p for p in engine.processes() if "dispatcher" in p.cmdline()], lambda found: len(found) == 1)
    engine.check()


def test_a_log_of_100_megabytes_shows_its_end(engine):
    engine.fault("log of 100 MB")
    (run_id,) = engine.submit(engine.spec(steps=3, act="chatter", at=2, megabytes=100))
    (run,) = engine.wait(run_id)
    assert run.status == "done"
    assert run.log_path.stat().st_size > 100_000_000
    started = time.monotonic()
    tail = engine.store.log(run_id)
    assert time.monotonic() - started < 0.5
    assert len(tail) <= 20_000
    assert tail.endswith("the very last line\n")
    assert tail.startswith("x" * 99 + "\n"), "the tail starts with a whole line"
    engine.check()


def test_a_pack_shares_a_process_but_not_a_fate(engine):
    specs = [engine.spec(steps=400, pace_s=0.003) for _ in range(4)]
    run_ids = engine.submit(*specs, engine.spec(steps=3), packs=[1, 1, 1, 1, None])
    for run_id in run_ids[:4]:
        engine.at_step(run_id)
    assert len({engine.worker_pid(run_id) for run_id in run_ids[:4]}) == 1
    engine.store.request_stop(run_ids[0], keep=False)
    engine.store.request_stop(run_ids[1], keep=True)
    engine.wait(*run_ids[:2], run_ids[4])
    assert {run.status for run in engine.store.runs(ids=run_ids[2:4])} == {"running"}
    assert engine.store.log(run_ids[2]) == engine.store.log(run_ids[3])
    engine.fault("kill -9 of the worker of a pack")
    os.kill(engine.worker_pid(run_ids[2]), signal.SIGKILL)
    runs = engine.wait(*run_ids)
    assert [run.status for run in runs] == ["cancelled", "stopped", "lost", "lost", "done"]
    engine.store.retry(run_ids[2:4])
    for run_id in run_ids[2:4]:
        engine.until(lambda run_id=run_id: engine.store.run(run_id), lambda run: run.attempt == 2 and run.step > 2)
    assert engine.worker_pid(run_ids[2]) == engine.worker_pid(run_ids[3]), "retried together, trained together"
    for run_id in run_ids[2:4]:
        engine.store.request_stop(run_id, keep=False)
    engine.wait(*run_ids)
    engine.check()


def test_a_pack_that_is_cancelled_whole_ends_its_process(engine):
    run_ids = engine.submit(*[engine.spec(steps=9, act="hang", at=2) for _ in range(3)], packs=[0, 0, 0])
    engine.training(run_ids[0])
    for run_id in run_ids:
        engine.store.request_stop(run_id, keep=False)
    assert {run.status for run in engine.wait(*run_ids)} == {"cancelled"}
    engine.check()


def test_a_retry_resumes_from_the_last_checkpoint_and_the_curve_is_unbroken(engine):
    (run_id,) = engine.submit(engine.spec(steps=60, pace_s=0.01, checkpoint_every=5))
    engine.at_step(run_id, 12)
    engine.fault("kill -9 of a worker with checkpoints, then retry")
    os.kill(engine.worker_pid(run_id), signal.SIGKILL)
    engine.wait(run_id)
    engine.store.retry(run_id)
    (run,) = engine.wait(run_id)
    assert run.status == "done"
    assert run.first_step >= 10
    curve = engine.store.curves([run_id]).query("kind == 'step'")
    assert curve["step"].tolist() == list(range(1, 61))
    assert curve["elapsed_s"].is_monotonic_increasing
    engine.check()


def test_a_database_locked_for_5_s_delays_but_loses_nothing(engine):
    engine.fault("database locked for 5 s")
    (run_id,) = engine.submit(engine.spec(steps=200, pace_s=0.01))
    engine.at_step(run_id)
    other = sqlite3.connect(engine.store.database.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    time.sleep(5.0)
    other.execute("ROLLBACK")
    other.close()
    (run,) = engine.wait(run_id)
    assert run.status == "done"
    assert [e["step"] for e in engine.store.events(run_id, kinds=["step"])] == list(range(1, 201))
    engine.check()


def test_a_deleted_home_ends_its_engine(engine):
    (run_id,) = engine.submit(engine.spec(steps=4000, pace_s=0.01))
    engine.at_step(run_id)
    pids = [process.pid for process in engine.processes()]
    shutil.rmtree(engine.home)
    deadline = time.monotonic() + 10
    while any(process_start(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("by_s", [-3600, 3600])
def test_a_change_of_the_clock_moves_no_duration_and_ends_no_run(engine, by_s):
    changed, beside = engine.submit(
        engine.spec(steps=40, pace_s=0.01, act="clock", at=10, by_s=by_s), engine.spec(steps=40, pace_s=0.01)
    )
    engine.fault("change of the clock by an hour")
    runs = engine.wait(changed, beside)
    assert [run.status for run in runs] == ["done"] * 2
    assert all(0.3 < run.seconds < 60 for run in runs), "durations come from a clock that nobody sets"
    engine.check()
