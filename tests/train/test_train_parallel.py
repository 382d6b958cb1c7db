"""Two processes train one run exactly as one does; what cannot be shared is refused, and a lost process is told."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
import torch
from safetensors.torch import load_file

from cdka.errors import CdkaError
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.train import distributed
from cdka.train.loop import train

MATH = ("math-lm", "math-chain")
SMALL = {"components": "2,4,1", "steps": 4, "batch_size": 7, "eval_every": 2, "dtype": "float64", "device": "cpu"}


def run(folder, control=None, model=MATH, **settings):
    spec = spec_for(*model, **{**SMALL, **settings})
    return [event.to_dict() for _, event in train(resolve_runs([spec]), [folder], control)]


def numbers(events, kind, key):
    return [event[key] for event in events if event["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("model", [MATH, ("digits-vit", "digits-flip")])
@pytest.mark.parametrize("method", ["cdka", "full"])
def test_two_processes_equal_one(model, method, tmp_path):
    changes = {"model": model, "method": method, "components": "2,4,1" if method == "cdka" else None}
    alone = run(tmp_path / "1", **changes)
    shared = run(tmp_path / "2", num_processes=2, **changes)
    for kind, key in (("step", "train/loss"), ("step", "grad_norm"), ("eval", "eval/loss"), ("eval", "eval/accuracy")):
        assert numbers(shared, kind, key) == pytest.approx(numbers(alone, kind, key), rel=1e-9)
    assert shared[-1]["predictions"] == alone[-1]["predictions"]
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    one, two = (load_file(tmp_path / number / "adapter" / name) for number in "12")
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-7, atol=1e-9)
    assert distributed.size() == 1  # nothing of the meeting is left


@pytest.mark.slow
def test_stop_and_keep_reaches_every_process(tmp_path):
    asked = []

    def control(_index):
        asked.append(None)
        return "keep" if len(asked) == 3 else None

    events = run(tmp_path, control, num_processes=2, steps=50, eval_every=50)
    assert events[-1]["kind"] == "final"
    assert events[-1]["metrics"]["steps_done"] == 2
    assert not [p for p in psutil.Process().children() if "cdka.train.loop" in " ".join(p.cmdline())]


@pytest.mark.slow
def test_a_process_that_dies_is_told_in_one_line(tmp_path):
    killed = []

    def control(_index):
        for child in psutil.Process().children():
            if not killed and "cdka.train.loop" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
        return None

    with pytest.raises(CdkaError, match="process 2 of 2 ended with code -9"):
        run(tmp_path, control, num_processes=2, steps=50, eval_every=50)
    assert killed
    assert distributed.size() == 1


def test_a_pack_is_not_shared_among_processes(tmp_path):
    spec = spec_for(*MATH, **{**SMALL, "num_processes": 2})
    with pytest.raises(CdkaError, match="several processes train one run at a time: got a pack of 2"):
        list(train(resolve_runs([spec, spec.with_(seed=1)]), [tmp_path, tmp_path]))


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "fits"), [(2, 1, True), (1, 1, False), (5, 2, True), (3, 2, False), (7, 3, False)]
)
def test_every_process_needs_an_example_of_every_part(batch_size, accumulation, fits):
    settings = {**SMALL, "num_processes": 2, "batch_size": batch_size, "gradient_accumulation": accumulation}
    parts = [len(part) for part in torch.arange(batch_size).chunk(accumulation)]
    assert (min(parts) >= 2) == fits
    if fits:
        assert spec_for(*MATH, **settings).num_processes == 2
    else:
        with pytest.raises(CdkaError, match="each process needs an example of every part of a batch"):
            spec_for(*MATH, **settings)


def test_each_process_gets_its_own_gpu_and_too_few_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setenv("CDKA_GPUS", "0,1,2,3")
    spec = spec_for(*MATH, **{**SMALL, "num_processes": 3, "device": "auto"})
    assert distributed.places(spec) == ["2", "0", "1"]
    with pytest.raises(CdkaError, match="num_processes takes one GPU each: got 6, and this machine shows 4"):
        distributed.places(spec.with_(num_processes=6))
    assert distributed.places(spec.with_(device="cpu")) == [None] * 3


def test_alone_nothing_is_shared():
    rows = torch.arange(5)
    assert distributed.shard(rows) is rows
    assert distributed.gather("x") == ["x"]
    assert distributed.broadcast("keep") == "keep"
    assert distributed.interleave([["a", "c", "e"], ["b", "d"]]) == list("abcde")
