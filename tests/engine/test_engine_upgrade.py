"""A store that is upgraded while runs are at work: workers of 0.1.0 go on writing into the file of today's version.

A worker of 0.1.0 is played by a process that executes that version's statements (``cdka/runs/transitions.py`` there),
at the pace of a training loop, on a file that 0.1.0 itself made (``tests/data``).
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ledger import tries

from cdka.engine.process import boot_id
from cdka.runs.database import FILE_NAME
from cdka.runs.schema import SCHEMA_VERSION

HOME = Path(__file__).parents[1] / "data" / "home-0.1.0.tar.gz"
QUEUED = 3
WORKER = """
import json, os, pathlib, sqlite3, sys, time
run_id, n, boot = sys.argv[1], int(sys.argv[2]), sys.argv[3]
stat = open("/proc/self/stat", "rb").read()
start = stat[stat.rindex(b")") + 2 :].split()[19].decode()
sql = sqlite3.connect("runs.sqlite3", timeout=10, isolation_level=None)
seq, step, stopped = 0, 0, False

def event(kind, **body):
    global seq
    body = json.dumps({"kind": kind, **body}, separators=(",", ":"))
    sql.execute("INSERT INTO events VALUES (?, 1, ?, ?, ?, ?)", (n, seq, kind, time.time(), body))
    seq += 1

sql.execute("BEGIN IMMEDIATE")
sql.execute(
    "UPDATE runs SET status = 'running', phase = 'loading', heard_at = ?"
    " WHERE run_id = ? AND attempt = 1 AND status = 'starting'", (time.time(), run_id))
sql.execute(
    "UPDATE attempts SET pid = ?, process_start = ?, boot_id = ? WHERE n = ? AND attempt = 1",
    (os.getpid(), start, boot, n))
sql.execute("COMMIT")
while not os.path.exists("enough"):  # then all its steps are done
    time.sleep(0.03)
    step += 1
    wish = sql.execute(
        "SELECT stop FROM runs WHERE run_id = ? AND attempt = 1 AND status IN ('starting', 'running', 'stopping')",
        (run_id,)).fetchone()
    assert wish is not None, "given up"
    if wish[0]:
        step, stopped = step - 1, True
        break
    sql.execute("BEGIN IMMEDIATE")
    event("step", step=step, lr=0.001, samples=64 * step, elapsed_s=0.03 * step, loss=1 / step, grad_norm=1.0)
    last = None
    if step % 5 == 0:
        evaluated = {"split": "validation", "step": step, "accuracy": 0.5, "loss": 0.75, "examples": 4}
        event("eval", **evaluated, elapsed_s=0.03 * step)
        last = json.dumps({"kind": "eval", **evaluated, "elapsed_s": 1.0}, separators=(",", ":"))
    sql.execute(
        "UPDATE runs SET heard_at = ?, step = ?, last_eval = coalesce(?, last_eval) WHERE n = ?",
        (time.time(), step, last, n))
    sql.execute("COMMIT")
folder = pathlib.Path("runs", run_id, "adapter")
folder.mkdir(parents=True)
for name in ("one", "two"):
    (folder / name).write_text(str(step))
metrics = '{"accuracy":0.5,"validation_accuracy":0.5,"steps_done":%d}' % step
sql.execute("BEGIN IMMEDIATE")
event("final", stopped=stopped, metrics=json.loads(metrics))
sql.execute(
    "UPDATE runs SET heard_at = ?, metrics = ?, status = ?, finished_at = ?, worked_s = 2.0, phase = NULL, stop = NULL"
    " WHERE n = ?", (time.time(), metrics, "stopped" if stopped else "done", time.time(), n))
sql.execute(
    "UPDATE attempts SET finished_at = ?, status = ? WHERE n = ? AND attempt = 1",
    (time.time(), "stopped" if stopped else "done", n))
sql.execute("COMMIT")
"""


@pytest.fixture
def old_home(tmp_path):
    """A home of 0.1.0 with nothing but its one queued run in the store."""
    home = tmp_path / "old"
    with tarfile.open(HOME) as tar:
        tar.extractall(home, filter="data")
    home.chmod(0o700)
    with sqlite3.connect(home / FILE_NAME) as file:
        file.execute("DELETE FROM runs WHERE status != 'queued'")
        for table in ("attempts", "events", "predictions"):
            file.execute(f"DELETE FROM {table} WHERE n NOT IN (SELECT n FROM runs)")
    file.close()
    return home


def queue(home: Path, number: int) -> list[str]:
    """``number`` more runs as 0.1.0 queues them; every queued run then."""
    with sqlite3.connect(home / FILE_NAME) as file:
        (columns,) = file.execute(
            "SELECT group_concat(name) FROM pragma_table_info('runs') WHERE name NOT IN ('n', 'run_id', 'position')"
        ).fetchone()
        for i in range(number):
            file.execute(
                f"INSERT INTO runs (run_id, position, {columns}) SELECT ?, position + ?, {columns} FROM runs LIMIT 1",
                (f"r-{'23456789'[i] * 8}", i + 1),
            )
        found = [row[0] for row in file.execute("SELECT run_id FROM runs ORDER BY position")]
    file.close()
    return found


def start_old_worker(home: Path, run_id: str, slot: str) -> subprocess.Popen:
    """A run that a dispatcher of 0.1.0 reserved, and the worker that it started; once that has claimed it."""
    with sqlite3.connect(home / FILE_NAME) as file:
        (n,) = file.execute("SELECT n FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        now = time.time()
        file.execute(
            "UPDATE runs SET status = 'starting', attempt = 1, started_at = ?, heard_at = ? WHERE n = ?", (now, now, n)
        )
        file.execute(
            "INSERT INTO attempts (n, attempt, job_id, slot, started_at) VALUES (?, 1, ?, ?, ?)",
            (n, f"j-{run_id[2:]}", slot, now),
        )
    file.close()
    arguments = [sys.executable, "-c", WORKER, run_id, str(n), boot_id()]
    worker = subprocess.Popen(arguments, cwd=home, start_new_session=True)
    deadline = time.monotonic() + 20
    with sqlite3.connect(home / FILE_NAME) as file:
        while file.execute("SELECT status FROM runs WHERE n = ?", (n,)).fetchone() != ("running",):
            assert time.monotonic() < deadline
            assert worker.poll() is None
            time.sleep(0.01)
    file.close()
    return worker


@pytest.mark.parametrize("number", tries())
def test_an_upgrade_with_runs_at_work_loses_nothing(old_home, make_engine, number):
    rng = random.Random(number)
    run_ids = queue(old_home, 2 + QUEUED - 1)
    workers = [start_old_worker(old_home, run_id, f"cpu:{i}") for i, run_id in enumerate(run_ids[:2])]
    time.sleep(rng.random() * 1.0)
    engine = make_engine(name="old")  # opens the store: that is the upgrade
    assert all(worker.poll() is None for worker in workers), "they were at work when it happened"
    engine.asked.update(run_ids)
    engine.fault("upgrade of the store with runs of 0.1.0 at work")
    kept = number % 2 == 1
    engine.ensure()
    if kept:
        engine.store.request_stop(run_ids[0], keep=True)
        engine.wait(run_ids[0])
    engine.until(engine.dispatcher)
    (old_home / "enough").touch()
    runs = engine.wait(*run_ids)
    for worker in workers:
        assert worker.wait(timeout=20) == 0
    assert [run.status for run in runs] == ["stopped" if kept else "done", *["done"] * (len(run_ids) - 1)], runs
    assert [run.attempt for run in runs] == [1] * len(runs)
    for run in runs[:2]:
        curve = engine.store.curves([run.run_id])
        steps = curve.query("kind == 'step'")
        assert steps["step"].tolist() == list(range(1, run.step + 1))
        assert steps["train/loss"].tolist() == pytest.approx([1 / step for step in range(1, run.step + 1)])
        assert curve.query("kind == 'eval'")["eval/accuracy"].tolist() == [0.5] * (run.step // 5)
        assert run.metrics["eval/accuracy"] == 0.5
    with sqlite3.connect(engine.store.database.path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    file.close()
    engine.check()
