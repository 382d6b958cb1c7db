"""A disk that fills up under a run: the store and the finished adapters stay, the run says why once there is room."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from ledger import tries

from cdka.runs.database import StoreFull

KILLED = ((), ("dispatcher",), ("forkserver",), ("dispatcher", "forkserver"), ("forkserver", "dispatcher"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB; skipped where mounting one is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_fails_one_run_and_nothing_else(small_disk, make_engine):
    engine = make_engine(name="disk")
    engine.fault("disk full")
    (finished,) = engine.submit(engine.spec(steps=4))
    engine.wait(finished)
    (run_id,) = engine.submit(engine.spec(steps=4000, pace_s=0.01, act="fill", at=30, where=str(small_disk)))
    engine.until(lambda: shutil.disk_usage(small_disk).free, lambda free: free < 4096)
    with pytest.raises(StoreFull, match="Free some disk space"):
        engine.store.submit([engine.spec()] * 2000)
    assert len(engine.store.runs()) == 2
    assert engine.store.run(run_id).status == "running", "its last word cannot be written yet"
    engine.until(lambda: "waiting" in engine.log() or not engine.at_work(run_id))
    (small_disk / "filler").unlink()
    (run,) = engine.wait(run_id)
    assert run.status == "failed"
    assert "disk" in run.error
    (after,) = engine.submit(engine.spec(steps=4))
    assert engine.wait(after)[0].status == "done"
    engine.check()
    with engine.store.database.read() as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def _fill(disk):
    with suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    with suppress(OSError), open(disk / "filler-2", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x")


@pytest.mark.parametrize("number", tries())
@pytest.mark.parametrize("killed", KILLED, ids=lambda killed: " and ".join(killed) or "nothing")
def test_a_full_disk_is_waited_for_whoever_is_alive_or_dead(small_disk, make_engine, killed, number):
    """Nobody looks after the engine: freed space alone must be enough, unless nobody was left alive."""
    engine = make_engine(name="disk")
    engine.fault("disk full, then " + (" and ".join(killed) + " killed" if killed else "nothing killed"))
    (first,) = engine.submit(engine.spec(steps=2))
    engine.wait(first)
    run_ids = engine.submit(*[engine.spec(steps=60, pace_s=0.01) for _ in range(5)])
    engine.at_step(run_ids[0], 2 + number)
    (forkserver,) = engine.until(engine.forkservers)
    _fill(small_disk)
    at_work = [run.run_id for run in engine.store.runs(status="running")]
    engine.until(lambda: not any(engine.at_work(run_id) for run_id in at_work))  # they give up
    time.sleep(0.5)  # the dispatcher learns that it cannot record that
    victims = {"forkserver": forkserver.pid, "dispatcher": engine.dispatcher()}
    for name in killed:
        os.kill(victims[name], signal.SIGKILL)
    time.sleep(1.0)
    for filler in small_disk.glob("filler*"):
        filler.unlink()
    deadline = time.monotonic() + 60
    while not all(run.status.is_finished() for run in engine.store.runs(ids=run_ids)):
        assert time.monotonic() < deadline, (engine.store.runs(), engine.log(), engine.processes())
        if len(killed) == 2:  # nobody is left: whoever looks revives
            engine.ensure()
        time.sleep(0.1)
    for run in engine.store.runs(ids=run_ids):
        assert run.status == "done" or "disk" in run.error, run
    assert sum(run.status == "done" for run in engine.store.runs(ids=run_ids)) >= 3, "those that had not begun"
    engine.check()


def test_a_worker_that_may_write_no_more_fails_and_leaves_no_half_adapter(engine):
    engine.fault("quota of the worker reached")
    first, other = engine.submit(
        engine.spec(steps=300, pace_s=0.01, act="quota", at=5), engine.spec(steps=20, pace_s=0.01)
    )
    run, beside = engine.wait(first, other)
    assert run.status == "failed"
    assert not run.adapter_dir.exists()
    assert beside.status == "done"
    engine.check()
