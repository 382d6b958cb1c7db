"""The real loop through the real engine: one process tree, from the queue to a whole adapter."""

from __future__ import annotations

import json
import os
import signal

from cdka.engine import local
from cdka.runs.resolve import spec_for
from cdka.runs.store import Store


def _stop(store: Store) -> None:
    pid = local.dispatcher_pid(store.home)
    if pid:
        os.kill(pid, signal.SIGTERM)


def test_a_pack_and_a_single_run_of_digits_train_in_forked_workers(home):
    store = Store(home)
    specs = [
        spec_for("digits-vit", "digits-flip", components=components, steps=3, eval_every=2, batch_size=8)
        for components in ("2,8,1", "1,4,2", "2,8,1")
    ]
    run_ids = store.submit(specs, packs=[1, 1, None])
    try:
        runs = local.wait(store, run_ids)
    finally:
        _stop(store)
    assert [run.status for run in runs] == ["done"] * 3, [store.log(run.run_id) for run in runs]
    for run in runs:
        assert (run.adapter_dir / "adapter_model.safetensors").is_file()
        assert json.loads((run.adapter_dir / "adapter_config.json").read_text())
        assert run.num_params > 0
        assert 0 <= run.metrics["test/accuracy"] <= 1
        assert run.peak_bytes > 10_000_000
        steps = store.events(run.run_id, kinds=["step"])
        assert [event["step"] for event in steps] == [1, 2, 3]
        assert len(store.predictions(run.run_id)) == run.metrics["test/examples"]
        assert store.attempts(run.run_id)[0]["versions"]["torch"]
    first, second = (store.attempts(run_id)[0]["pid"] for run_id in run_ids[:2])
    assert first == second != store.attempts(run_ids[2])[0]["pid"]
    packed, alone = (store.curves([run_ids[i]])["train/loss"].dropna().tolist() for i in (0, 2))
    assert max(abs(a - b) for a, b in zip(packed, alone, strict=True)) < 1e-4, "a pack is separate runs"
