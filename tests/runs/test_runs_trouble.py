"""Troubles with the file: locked, full, damaged, newer, not ours. Refused in one line, never overwritten."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from ledger import LEDGER, Damage

from cdka.errors import CdkaError
from cdka.runs import database
from cdka.runs.database import StoreBusy, StoreFull, StoreUnreadable
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

SPEC = RunSpec("digits-vit", "digits-flip")


def noted(fault: str, intact: bool) -> None:
    """The file is as it was: nothing was overwritten."""
    LEDGER.tried(fault)
    LEDGER.audited({fault}, 1, Damage(lost=[] if intact else ["overwritten"]))
    assert intact


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_damaged_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / database.FILE_NAME
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreUnreadable, match="damaged") as error:
        Store(tmp_path)
    assert str(path) in one_line(error)
    noted("damaged database", path.read_bytes() == b"this is no database" * 1000)


def test_a_file_damaged_in_the_middle_is_told_when_it_is_read(tmp_path):
    store = Store(tmp_path)
    store.submit([SPEC.with_(seed=i) for i in range(500)])
    store.close()
    path = tmp_path / database.FILE_NAME
    damaged = bytearray(path.read_bytes())
    damaged[4096 * 3 :] = b"\x55" * (len(damaged) - 4096 * 3)
    path.write_bytes(damaged)
    with pytest.raises(StoreUnreadable, match="damaged"):
        Store(tmp_path).frame()
    noted("damaged database", path.read_bytes() == damaged)


def test_a_newer_file_is_refused_with_advice(tmp_path):
    store = Store(tmp_path)
    run_ids = store.submit([SPEC] * 3)
    store.close()
    with sqlite3.connect(tmp_path / database.FILE_NAME) as other:
        other.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreUnreadable, match="Upgrade cdka-studio") as error:
        Store(tmp_path)
    assert "999" in one_line(error)
    with sqlite3.connect(tmp_path / database.FILE_NAME) as other:
        other.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION}")
    noted("database of a newer version", [run.run_id for run in Store(tmp_path).runs()] == run_ids)


def test_another_program_s_database_is_not_taken_over(tmp_path):
    with sqlite3.connect(tmp_path / database.FILE_NAME) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreUnreadable, match="not a run store of ours"):
        Store(tmp_path)
    with sqlite3.connect(tmp_path / database.FILE_NAME) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


def test_a_home_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CdkaError, match="must be writable") as error:
        Store(tmp_path / "file" / "home")
    one_line(error)


def test_a_short_lock_is_waited_out_and_a_long_one_is_told(tmp_path, monkeypatch):
    store = Store(tmp_path)
    other = sqlite3.connect(tmp_path / database.FILE_NAME, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    assert store.runs() == [], "reading does not wait"
    assert Store(tmp_path).runs() == [], "nor does opening"
    timer = threading.Timer(1.0, lambda: other.execute("ROLLBACK"))
    timer.start()
    started = time.monotonic()
    store.submit(SPEC)
    assert time.monotonic() - started > 0.5
    timer.join()
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    impatient = Store(tmp_path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusy, match="locked") as error:
        impatient.submit(SPEC)
    one_line(error)
    other.execute("ROLLBACK")
    impatient.submit(SPEC)
    assert len(store.runs()) == 2
    other.close()


def _open(home, barrier, answers):
    barrier.wait()
    try:
        store = Store(home)
        answers.put(store.submit([SPEC, SPEC], request_id="the same click"))
    except Exception as error:
        answers.put(repr(error))


def test_many_processes_may_create_the_same_store_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(4), context.Queue()
    crowd = [context.Process(target=_open, args=(tmp_path, barrier, answers)) for _ in range(4)]
    for process in crowd:
        process.start()
    got = [answers.get(timeout=60) for _ in crowd]
    for process in crowd:
        process.join()
    assert all(answer == got[0] and len(answer) == 2 for answer in got), got
    assert len(Store(tmp_path).runs()) == 2


QUOTA = """
import resource, sys
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
store = Store(sys.argv[1])
spec = RunSpec("digits-vit", "digits-flip")
kept = store.submit([spec])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    for _ in range(1000):
        store.submit([spec] * 50)
except CdkaError as error:
    print(type(error).__name__, error)
print(store.run(kept[0]).status)
"""


def test_a_full_disk_refuses_a_submit_whole_and_spoils_nothing(tmp_path):
    answer = subprocess.run([sys.executable, "-c", QUOTA, str(tmp_path)], capture_output=True, text=True, timeout=60)
    told, status = answer.stdout.splitlines()
    assert told.startswith(StoreFull.__name__), answer
    assert "Free some disk space" in told
    assert status == "queued"
    store = Store(tmp_path)
    assert len(store.runs()) % 50 == 1, "every submit is whole or absent"
    with store.database.read() as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    store.submit(SPEC)


def test_the_store_is_free_of_torch_and_streamlit():
    heavy = "import sys, cdka.runs.store, cdka.engine.local, cdka.engine.dispatcher, cdka.sweep.launch; "
    probe = heavy + "print([m for m in ('torch', 'transformers', 'peft', 'datasets', 'streamlit') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    can_fail = subprocess.run(
        [sys.executable, "-c", "import streamlit; " + probe], capture_output=True, text=True, check=True
    )
    assert can_fail.stdout.strip() == "['streamlit']"
