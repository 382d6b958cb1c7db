"""A disk that fills up under a run: the store and the finished adapters stay, the run says why once there is room."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cdka.runs.database import StoreFull


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
