"""The parts of the engine on their own: identity, slots, causes, the recorder, stale code, leaving when idle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cdka.cost.memory import PROCESS_BYTES
from cdka.engine import local, process, recorder, slots
from cdka.engine import process as fingerprints
from cdka.engine.dispatcher import Dispatcher
from cdka.engine.failures import cause_of, outcome_of
from cdka.engine.recorder import Recorder
from cdka.engine.slots import JobSpec, Slot
from cdka.engine.spawn import WorkerStarter
from cdka.errors import CdkaError
from cdka.runs.database import StoreFull
from cdka.runs.events import Evaluated, Step
from cdka.runs.job_queue import claim, reserve
from cdka.runs.resolve import resolve_run
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.sweep.launch import launch_runs

SPEC = RunSpec("digits-vit", "digits-flip", components="2,8,4")
RUN = resolve_run(SPEC)


def test_a_process_is_known_by_more_than_its_number():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    identity = (child.pid, process.process_start(child.pid), process.boot_id())
    assert process.is_alive(identity)
    assert not process.is_alive((child.pid, "1", process.boot_id()))
    assert not process.is_alive((*identity[:2], "another boot"))
    child.kill()
    deadline = time.monotonic() + 5
    while process.is_alive(identity):  # a zombie does not count as alive
        assert time.monotonic() < deadline
    assert child.poll() is None or child.returncode == -signal.SIGKILL
    child.wait()
    assert process.process_start(child.pid) is None


def test_the_start_of_a_process_does_not_move_with_the_clock(monkeypatch):
    before = process.own_identity()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert process.own_identity() == before
    assert process.is_alive(before)


def test_a_dispatcher_that_is_still_importing_is_not_started_twice(tmp_path, monkeypatch):
    """On a machine short of everything imports take a minute, and every look started another one meanwhile."""
    store = Store(tmp_path)
    store.submit(SPEC)
    slow = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert local.ensure_dispatcher(store, command=slow)
    first = local._started[-1]
    assert local.dispatcher_pid(store.home) == first.pid
    probe = (
        "import sys, pathlib; from cdka.engine import local; print(local.start_dispatcher(pathlib.Path(sys.argv[1])))"
    )
    other = subprocess.run([sys.executable, "-c", probe, str(store.home)], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "False", "another program respects it"
    monkeypatch.setattr(local, "CONFIRM_S", 0.3)
    for age_s, started in ((process.DISPATCHER_LIMIT_S + 5, False), (process.START_LIMIT_S + 5, True)):
        long_ago = time.time() - age_s
        os.utime(store.home / process.LOCK, (long_ago, long_ago))
        assert local.ensure_dispatcher(store, command=slow) == started
    assert first.wait(timeout=20) == -signal.SIGKILL, "one that never ends importing is replaced"
    second = local._started[-1]
    assert not process.dispatcher_was_killed(store.home)
    second.kill()
    second.wait()
    assert local.dispatcher_pid(store.home) is None
    assert process.dispatcher_was_killed(store.home)
    with process.dispatcher_lock(store.home) as mine:
        assert mine
        assert local.dispatcher_pid(store.home) == os.getpid()
    assert not process.dispatcher_was_killed(store.home), "it left by itself"


def test_the_lock_that_an_older_version_wrote_is_read(tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / process.LOCK).write_bytes(f"{4711:<19}\n".encode())
    assert local.dispatcher_pid(tmp_path) is None
    assert not process.dispatcher_was_killed(tmp_path)
    with process.dispatcher_lock(tmp_path) as mine:
        assert mine
        assert local.dispatcher_pid(tmp_path) == os.getpid()


def test_slots_are_one_per_gpu_and_cpu_slots_for_those_who_ask(monkeypatch):
    monkeypatch.setattr(slots, "gpus", lambda: ("0", "3"))
    monkeypatch.setattr(slots, "cores", lambda: 16)
    monkeypatch.delenv("CDKA_SLOTS", raising=False)
    found = slots.detect()
    assert [slot.name for slot in found] == ["cuda:0", "cuda:1", *(f"cpu:{i}" for i in range(4))]
    assert [slot.gpu for slot in found[:3]] == ["0", "3", None]
    assert found[-1].threads == 4
    table = {
        device: [slot.name for slot in found if slots.suits(slot, device, True)]
        for device in ("auto", "cuda", "cuda:1", "cpu")
    }
    assert table["auto"] == table["cuda"] == ["cuda:0", "cuda:1"]
    assert table["cuda:1"] == ["cuda:1"]
    assert table["cpu"] == [f"cpu:{i}" for i in range(4)]
    assert slots.suits(found[-1], "auto", False), "without a GPU the CPU is the place"
    assert slots.environment(found[1])["CUDA_VISIBLE_DEVICES"] == "3"
    assert slots.environment(found[-1])["CUDA_VISIBLE_DEVICES"] == ""
    assert slots.in_process(SPEC.with_(device="cuda:1"), found[1]).device == "cuda:0"
    with pytest.raises(CdkaError, match="Known here: auto, cpu, cuda:0, cuda:1"):
        slots.check_device("cuda:2")
    monkeypatch.setenv("CDKA_SLOTS", "none")
    with pytest.raises(CdkaError, match="from 1 to 256"):
        slots.detect()


def test_visible_devices_are_respected(monkeypatch):
    slots.gpus.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert slots.gpus() == ("2", "5")
    slots.gpus.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slots.gpus() == ()
    slots.gpus.cache_clear()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "Lower batch_size (now 64"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (CdkaError("r1 must divide."), "r1 must divide."),
        (KeyError("labels"), "KeyError: 'labels'"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_causes_are_told_in_one_line(error, words):
    cause = cause_of(error, [RUN], 2 * 2**30)
    assert words in cause
    assert "\n" not in cause


def test_out_of_memory_comes_with_the_estimate():
    cause = cause_of(MemoryError(), [RUN], 2_000_000_000)
    assert cause.startswith("out of memory after using 2.0 GB (estimate: ")
    causes = [cause_of(MemoryError(), [RUN.with_(batch_size=n)]) for n in (64, 512)]
    estimates = [float(cause.split("estimate: ")[1].split(" MB")[0]) for cause in causes]
    assert estimates[1] > estimates[0] + 50, "it grows with the batch"


def test_out_of_memory_estimates_the_run_that_ran():
    """One part of an accumulated batch is in memory at a time, and a GPU's base is in bfloat16 by itself."""

    def estimate(device_type="cpu", **changes):
        cause = cause_of(MemoryError(), [RUN.with_(batch_size=4096, **changes)], None, device_type)
        number, unit = re.search(r"estimate: ([\d.]+) (GB|MB)", cause).groups()
        return float(number) * (1e9 if unit == "GB" else 1e6) - PROCESS_BYTES

    assert estimate(gradient_accumulation=8) < estimate() / 6
    assert estimate("cuda") < 0.7 * estimate()


def test_an_image_run_is_not_told_to_shorten_its_text():
    assert "max_length" not in cause_of(MemoryError(), [RUN])
    assert "fewer runs at once (now 3" in cause_of(MemoryError(), [RUN] * 3)


def test_how_a_process_ended_decides_between_failed_and_lost():
    assert outcome_of(-9, "")[0] == "lost"
    assert outcome_of(-15, "")[0] == "lost"
    assert outcome_of(-11, "") == ("failed", "its process crashed with SIGSEGV.")
    assert outcome_of(1, "a\nboom\n\n") == ("failed", "its process ended with exit code 1. The log ends with: boom")
    assert outcome_of(0, "")[0] == "failed"
    assert outcome_of(None, "")[0] == "lost"


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """(store, recorder, run id) of one claimed run, and a clock that only the test moves."""
    store = Store(tmp_path)
    store.submit(SPEC)
    ((run_id, attempt),) = reserve(store.database, lambda spec: "cpu:0").runs
    claim(store.database, run_id, attempt, (1, "s", "b"))
    clock = [0.0]
    monkeypatch.setattr(recorder.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(recorder.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    return store, Recorder(store, [(run_id, attempt)]), run_id, clock


def step(n):
    return Step(step=n, loss=1.0, samples=n, elapsed_s=n / 1000)


def test_thousands_of_steps_make_few_transactions(recorded, monkeypatch):
    store, collects, run_id, clock = recorded
    calls = []
    real = recorder.record_events
    monkeypatch.setattr(recorder, "record_events", lambda *a: calls.append(1) or real(*a))
    for n in range(1, 5001):
        clock[0] += 0.001
        collects.add(0, step(n))
    collects.close()
    assert 45 <= len(calls) <= 55, "5 s of steps, ten times a second"
    assert [event["step"] for event in store.events(run_id)] == list(range(1, 5001))


def test_what_people_wait_for_is_stored_at_once(recorded):
    store, collects, run_id, _ = recorded
    collects.add(0, step(1))
    assert store.events(run_id) == []
    collects.add(0, Evaluated(step=1, metrics={"eval/accuracy": 0.5}))
    assert [event["kind"] for event in store.events(run_id)] == ["step", "eval"]


def test_a_checkpoint_is_never_ahead_of_the_record(recorded):
    store, _, run_id, _ = recorded
    collects = Recorder(store, [(run_id, 1)], checkpoint_every=5)
    for n in range(1, 8):
        collects.add(0, step(n))
    assert [event["step"] for event in store.events(run_id)] == [1, 2, 3, 4, 5]


def test_events_wait_in_memory_while_the_disk_is_full(recorded, monkeypatch):
    store, collects, run_id, clock = recorded
    real, full = recorder.record_events, [True]

    def sometimes(*args):
        if full[0]:
            raise StoreFull("full")
        return real(*args)

    monkeypatch.setattr(recorder, "record_events", sometimes)
    for n in range(1, 301):
        clock[0] += 0.1
        collects.add(0, step(n))
    assert store.events(run_id) == []
    full[0] = False
    clock[0] += 1.1
    collects.add(0, step(301))
    assert [event["step"] for event in store.events(run_id)] == list(range(1, 302))
    full[0] = True
    clock[0] += 1.1
    collects.add(0, step(302))
    clock[0] += recorder.STORE_WAIT_LIMIT_S - 1
    collects.add(0, step(303))
    clock[0] += 2
    with pytest.raises(StoreFull):
        collects.add(0, step(304))


def test_a_refused_run_is_silent_and_told_to_leave(recorded):
    store, collects, run_id, clock = recorded
    from cdka.runs.job_queue import conclude

    conclude(store.database, [(run_id, 1)], "lost", "gone")
    clock[0] += 1
    assert collects.stop_requested(0) == "cancel"
    clock[0] += 1
    collects.add(0, step(1))
    assert collects.open_runs == []
    assert store.events(run_id) == []


def test_an_order_travels_as_text():
    job_spec = JobSpec("/a home", (("r-1", 2), ("r-2", 1)), Slot("cuda:0", "3", 4))
    assert JobSpec.from_json(job_spec.to_json()) == job_spec
    assert job_spec.log_paths()[0] == Path("/a home/runs/r-1/attempt-2.log")


def test_a_device_that_is_not_here_fails_the_run_and_not_the_queue(tmp_path):
    store = Store(tmp_path)
    run_id, other = store.submit([SPEC.with_(device="cuda:5"), SPEC.with_(device="cpu")])
    dispatcher = Dispatcher(store, WorkerStarter(tmp_path, worker=("true",), forkserver=None), [Slot("cpu:0", None, 1)])
    dispatcher.step()
    assert store.run(run_id).status == "failed"
    assert "not on this machine, which has: cpu:0" in store.run(run_id).error
    deadline = time.monotonic() + 10
    while store.run(other).status != "failed":  # `true` ends without a word
        dispatcher.step()
        assert time.monotonic() < deadline
    assert store.run(other).error == "its process ended without a result."


def test_the_fingerprint_follows_our_files(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text("1")
    monkeypatch.setattr(fingerprints, "_PACKAGE", tmp_path)
    before = fingerprints.fingerprint()
    assert fingerprints.fingerprint() == before
    (tmp_path / "note.txt").write_text("no code")
    assert fingerprints.fingerprint() == before
    (tmp_path / "sub" / "a.py").write_text("22")
    assert fingerprints.fingerprint() != before


def test_new_code_replaces_the_dispatcher_and_runs_go_on(engine, tmp_path, monkeypatch):
    marker = tmp_path / "code-changed"
    monkeypatch.setenv("FAKE_CODE", str(marker))
    (run_id,) = engine.submit(engine.spec(steps=200, pace_s=0.01))
    engine.at_step(run_id)
    old = engine.dispatcher()
    marker.write_text("new")
    engine.until(engine.dispatcher, lambda pid: pid not in (None, old))
    assert engine.wait(run_id)[0].status == "done"
    engine.check()


def test_an_idle_engine_leaves_and_warm_keeps_it(engine, monkeypatch):
    monkeypatch.setenv("FAKE_IDLE_S", "0.5")
    assert local.warm(engine.store, command=engine.command)
    assert not local.warm(engine.store, command=engine.command), "one is enough"
    deadline = time.monotonic() + 20
    while engine.dispatcher() is not None or engine.processes():
        assert time.monotonic() < deadline, engine.processes()
        time.sleep(0.05)
    assert not local.ensure_dispatcher(engine.store, command=engine.command), "there is nothing to do"
    (run_id,) = engine.submit(engine.spec(steps=2))
    assert engine.wait(run_id)[0].status == "done"


def test_the_engine_s_folder_is_private(engine):
    engine.submit(engine.spec(steps=1))
    assert (engine.home / "engine").stat().st_mode & 0o077 == 0
    run_id = engine.store.runs()[0].run_id
    engine.wait(run_id)
    assert engine.store.run(run_id).log_path.stat().st_mode & 0o077 == 0


def test_what_cannot_work_is_refused_before_it_is_queued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "home")
    for changes, words in (
        ({"components": "3,8,4"}, "Nearest divisors: 2 or 4"),
        ({"model": "digits-vti"}, "Did you mean 'digits-vit'"),
        ({"model": "llama-2-7b"}, "must suit the task"),
        ({"target_modules": ("q_prj",)}, "q_prj"),
        ({"device": "cuda:7"}, "Known here"),
        ({"components": "2,8,1000"}, "got 15,232,000 parameters"),
    ):
        with pytest.raises(CdkaError, match=words.replace("(", r"\(")):
            launch_runs([SPEC.with_(**changes)], store)
    assert store.runs() == []
    assert os.getcwd() == str(tmp_path)


def test_the_audit_after_faults_sees_each_kind_of_damage(engine):
    """What the table of faults counts must be able to differ from zero."""
    gone, doubled, halved = engine.submit(*[engine.spec(steps=3) for _ in range(3)])
    engine.wait(gone, doubled, halved)
    assert engine.audit().all == []
    with engine.store.database.write() as sql:
        sql.execute("DELETE FROM runs WHERE run_id = ?", (gone,))
        sql.execute(
            "UPDATE events SET seq = 99 WHERE seq = 2 AND n = (SELECT n FROM runs WHERE run_id = ?)", (doubled,)
        )
    (engine.store.run(halved).adapter_dir / "two").unlink()
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=engine.home)
    try:
        engine.until(engine._orphans_now)
        damage = engine.audit(wait_limit_s=0.5)
    finally:
        orphan.kill()
        orphan.wait()
    assert [len(lines) for lines in vars(damage).values()] == [1, 2, 1, 1], damage


def test_a_forkserver_that_is_still_loading_does_not_outlive_its_dispatcher(tmp_path):
    """Dispatchers that leave because the code changed, again and again, would heap up processes that load."""
    starter = WorkerStarter(tmp_path, forkserver=(sys.executable, "-c", "import time; time.sleep(60)"))
    before = set(psutil.Process().children())
    assert not starter.ready()
    (child,) = set(psutil.Process().children()) - before
    starter.close()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()
