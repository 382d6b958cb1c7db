"""Many at once: fifty submits, stops and cancels in random order, and a store of 20,000 runs, while processes die."""

from __future__ import annotations

import os
import random
import shutil
import signal
from contextlib import suppress

import pytest
from ledger import tries
from many_runs import fill

from cdka.runs.store import Store


@pytest.mark.parametrize("seed", tries(1))
def test_fifty_submits_and_cancels_end_as_asked(engine, seed):
    rng = random.Random(seed)
    asked: dict[str, set[str]] = {}
    engine.fault("50 quick submits, stops and cancels")
    for turn in range(50):
        if not asked or rng.random() < 0.6:
            steps = rng.choice([2, 5, 400])
            request = f"click-{rng.randrange(1000)}"
            packs = [0, 0] if rng.random() < 0.3 else None
            specs = [engine.spec(steps=steps, pace_s=0.002)] * 2
            for run_id in engine.submit(*specs, request_id=request, packs=packs):
                asked.setdefault(run_id, {"long"} if steps == 400 else set())
        else:
            run_id = rng.choice(list(asked))
            wish = rng.choice(["keep", "cancel"])
            engine.store.request_stop(run_id, keep=wish == "keep")
            asked[run_id].add(wish)
        if turn in (15, 35) and (pid := engine.dispatcher()):
            os.kill(pid, signal.SIGKILL)
        if turn == 25:
            for process in engine.forkservers():
                process.kill()
    for run_id, wishes in asked.items():
        if "long" in wishes and wishes == {"long"}:
            engine.store.request_stop(run_id, keep=False)
            wishes.add("cancel")
    runs = engine.wait(*asked, s=60)
    assert len(runs) == len(engine.store.runs()) == len(asked), "no run is lost from the record"
    for run in runs:
        wishes = asked[run.run_id]
        allowed = {"done"} if not wishes else {"done", "stopped", "cancelled"}
        if "cancel" not in wishes:
            allowed -= {"cancelled"} if run.attempt else set()
        if "keep" not in wishes:
            allowed -= {"stopped"}
        # A run that was reserved but not yet taken up is cancelled by either wish.
        assert run.status in allowed | ({"cancelled"} if wishes & {"keep", "cancel"} else set()), (run, wishes)
    engine.check()
    assert [process for process in engine.processes() if "worker" in process.cmdline()] == []


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A home with 20,000 finished runs, to be copied."""
    home = tmp_path_factory.mktemp("crowded")
    store = Store(home)
    fill(store, 20_000)
    store.close()
    return home


@pytest.mark.parametrize("seed", tries())
def test_among_20_000_runs_nothing_is_lost_either(crowded, tmp_path, make_engine, seed):
    shutil.copytree(crowded, tmp_path / "crowded")
    engine = make_engine(name="crowded")
    rng = random.Random(seed)
    run_ids = engine.submit(*[engine.spec(steps=200, pace_s=0.01, checkpoint_every=5) for _ in range(6)])
    engine.fault("kills of the dispatcher and a worker among 20,000 runs")
    engine.at_step(run_ids[0], rng.randrange(1, 10))
    os.kill(engine.until(engine.dispatcher), signal.SIGKILL)
    victim = engine.until(lambda: [run.run_id for run in engine.store.runs(status="running")])[0]
    with suppress(ProcessLookupError):  # it may have ended just now
        os.kill(engine.worker_pid(victim), signal.SIGKILL)
    runs = engine.wait(*run_ids, s=90)
    assert [run.status for run in runs].count("done") >= 5
    engine.store.retry([run.run_id for run in runs if run.status != "done"])
    assert {run.status for run in engine.wait(*run_ids)} == {"done"}
    assert engine.store.counts() == {"done": 20_006}
    engine.check()
