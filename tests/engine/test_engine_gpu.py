"""On a GPU: workers forked from the forkserver must find it, each its own, as cold ones do."""

from __future__ import annotations

import os
import signal

import pytest

from cdka.engine import local
from cdka.runs.resolve import spec_for
from cdka.runs.store import Store

COLD = (
    "import sys; from cdka.engine import dispatcher, spawn; from pathlib import Path;"
    "dispatcher.main(sys.argv[1], spawn.WorkerStarter(Path(sys.argv[1]), forkserver=None))"
)


@pytest.mark.gpu
@pytest.mark.parametrize("start", ["warm", "cold"])
def test_digits_train_on_the_gpu(home, start):
    import sys

    store = Store(home)
    command = None if start == "warm" else (sys.executable, "-c", COLD)
    spec = spec_for("digits-vit", "digits-flip", components="2,8,4", steps=4, eval_every=2)
    run_ids = store.submit([spec, spec.with_(seed=1), spec.with_(device="cpu")])
    try:
        runs = local.wait(store, run_ids, command=command)
    finally:
        pid = local.dispatcher_pid(store.home)
        if pid:
            os.kill(pid, signal.SIGTERM)
    assert [run.status for run in runs] == ["done"] * 3, [store.log(run.run_id) for run in runs]
    devices = [store.events(run_id, kinds=["start"])[0]["device"] for run_id in run_ids]
    assert devices == ["cuda:0", "cuda:0", "cpu"]
