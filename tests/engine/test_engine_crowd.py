"""Fifty quick submits, stops and cancels in random order, with real processes and a dispatcher that dies twice."""

from __future__ import annotations

import os
import random
import signal

import pytest


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
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
