"""The loop on the embedded model: deterministic, exact in packs, resumable, and honest when a run diverges."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from cdka.cost.adapter import count_params
from cdka.errors import CdkaError
from cdka.runs.events import Step
from cdka.runs.resolve import resolve_run, resolve_runs, spec_for
from cdka.tasks.catalogue import find_task
from cdka.train import pack
from cdka.train.checkpoint import Checkpoints
from cdka.train.data.load import load_task
from cdka.train.loop import train
from cdka.train.member import data_order

DIGITS = ("digits-vit", "digits-flip")
SHORT = {"steps": 6, "batch_size": 8, "eval_every": 3, "lr": 2e-3, "alpha": 8}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def events_of(specs, folder, control=None):
    """Every event of each run of a pack."""
    found = [[] for _ in specs]
    directories = [folder / str(i) for i in range(len(specs))]
    for index, event in train(resolve_runs(specs), directories, control):
        found[index].append(event.to_dict())
    return found


def losses(events):
    return [event["train/loss"] for event in events if event["kind"] == "step"]


def final(events):
    return next(event for event in events if event["kind"] == "final")


def test_a_seed_repeats_a_run_bit_by_bit_and_another_seed_does_not(tmp_path):
    spec = spec_for(*DIGITS, components="2,4,1", **SHORT)
    (first,) = events_of([spec], tmp_path / "a")
    (again,) = events_of([spec], tmp_path / "b")
    (other,) = events_of([spec.with_(seed=1)], tmp_path / "c")
    assert losses(first) == losses(again)
    assert final(first)["metrics"]["test/accuracy"] == final(again)["metrics"]["test/accuracy"]
    assert losses(first) != losses(other)


def test_events_tell_the_whole_story_in_order(tmp_path):
    spec = spec_for(*DIGITS, components="2,4,1", **SHORT)
    (events,) = events_of([spec], tmp_path)
    kinds = [event["kind"] for event in events]
    assert [e["phase"] for e in events if e["kind"] == "phase"] == [
        "loading",
        "preparing data",
        "loading",
        "training",
        "saving",
        "testing",
    ]
    assert [e["step"] for e in events if e["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [e["step"] for e in events if e["kind"] == "eval"] == [0, 3, 6]
    assert kinds[-1] == "final"
    start = next(e for e in events if e["kind"] == "start")
    assert start["num_params"] == count_params(resolve_run(spec))
    said = final(events)["predictions"]
    right = sum(p == w for p, w in zip(said["predicted"], said["label"], strict=True))
    assert final(events)["metrics"]["test/accuracy"] == right / len(said["label"]) == right / 597
    saved = load_file(tmp_path / "0" / "adapter" / "adapter_model.safetensors")
    assert sum(t.numel() for t in saved.values()) == start["num_params"]


@pytest.mark.parametrize("method", ["lora", "lokr", "dora", "full"])
def test_every_method_trains_what_is_counted(method, tmp_path):
    rank = None if method == "full" else 2
    spec = spec_for(*DIGITS, method=method, rank=rank, **{**SHORT, "steps": 3})
    (events,) = events_of([spec], tmp_path)
    start = next(e for e in events if e["kind"] == "start")
    assert start["num_params"] == count_params(resolve_run(spec))
    assert losses(events)[-1] != losses(events)[0]


def test_lora_is_cdka_with_one_one_r_up_to_its_initialisation_scale(tmp_path):
    cdka = spec_for(*DIGITS, components="1,1,2", **SHORT)
    lora = spec_for(*DIGITS, method="lora", rank=2, **SHORT)
    assert cdka.scaling == pytest.approx(lora.scaling)
    assert count_params(resolve_run(cdka)) == count_params(resolve_run(lora))


@pytest.mark.parametrize(("dtype", "tolerance", "steps"), [("float32", 1e-5, 50), ("float64", 1e-10, 50)])
def test_a_pack_equals_separate_runs(dtype, tolerance, steps, tmp_path):
    changes = {"steps": steps, "batch_size": 4, "eval_every": 100, "dtype": dtype, "alpha": 8}
    specs = [
        spec_for(*DIGITS, components="2,4,1", lr=2e-3, seed=0, **changes),
        spec_for(*DIGITS, components="4,2,2", lr=1e-3, seed=1, **changes),
        spec_for(*DIGITS, components="2,4,1", lr=5e-4, seed=2, **changes),
    ]
    packed = events_of(specs, tmp_path / "pack")
    for i, spec in enumerate(specs):
        (alone,) = events_of([spec], tmp_path / f"alone{i}")
        assert losses(packed[i]) == pytest.approx(losses(alone), rel=tolerance)
        assert len(losses(alone)) == steps
    assert any(e["kind"] == "packing" for e in packed[0])


def test_a_start_from_the_gradient_learns_faster_and_is_the_same_in_a_pack(tmp_path):
    plain = spec_for(*DIGITS, components="4,2,1", **{**SHORT, "steps": 12, "batch_size": 32, "dtype": "float64"})
    warm = plain.with_(init_weights="gradient")
    (cold,) = events_of([plain], tmp_path / "cold")
    (alone,) = events_of([warm], tmp_path / "alone")
    packed, beside = events_of([warm, plain], tmp_path / "pack")
    (note,) = [e["text"] for e in alone if e["kind"] == "note"]
    assert "gradient on 32 samples: mean alignment" in note
    assert not [e for e in cold if e["kind"] == "note"]
    assert losses(alone)[0] == pytest.approx(losses(cold)[0]), "delta W is zero at the start, and the data is the same"
    assert losses(alone)[-1] < losses(cold)[-1]
    assert losses(packed) == pytest.approx(losses(alone), rel=1e-8)
    assert losses(beside) == pytest.approx(losses(cold), rel=1e-8)


@pytest.mark.parametrize("alpha", [1e20, 1e30], ids=["loss", "gradient"])
def test_one_run_of_a_pack_diverging_leaves_the_others_untouched(alpha, tmp_path):
    good = spec_for(*DIGITS, components="2,4,1", **{**SHORT, "steps": 8})
    bad = good.with_(alpha=alpha, scaling_rule="none", seed=1)
    (fine, broken) = events_of([good, bad], tmp_path / "pack")
    (alone,) = events_of([good], tmp_path / "alone")
    assert losses(fine) == pytest.approx(losses(alone), rel=1e-5)
    failed = broken[-1]
    assert failed["kind"] == "failed"
    assert "the loss or its gradient was no longer finite at step" in failed["cause"]
    assert "scaling_rule sqrt_r_r2" in failed["cause"]
    assert all(math.isfinite(x) for x in losses(broken))
    assert not (tmp_path / "pack" / "1" / "adapter").exists()
    kept = load_file(tmp_path / "pack" / "1" / "adapter-last-good" / "adapter_model.safetensors")
    assert all(t.isfinite().all() for t in kept.values())
    assert (tmp_path / "pack" / "0" / "adapter" / "adapter_config.json").exists()


def test_stop_and_keep_and_cancel_concern_their_own_run(tmp_path):
    specs = [spec_for(*DIGITS, components="2,4,1", seed=s, **{**SHORT, "steps": 12}) for s in range(3)]
    found = [[], [], []]

    def control(index):
        return {1: "keep", 2: "cancel"}.get(index) if len(losses(found[index])) >= 4 else None

    for index, event in train(resolve_runs(specs), [tmp_path / str(i) for i in range(3)], control):
        found[index].append(event.to_dict())
    whole, kept, dropped = found
    assert final(whole)["metrics"]["steps_done"] == 12
    assert final(kept)["stopped"] is True
    assert 4 <= final(kept)["metrics"]["steps_done"] <= 6
    assert dropped[-1]["kind"] == "cancelled"
    assert not (tmp_path / "2" / "adapter").exists()


@pytest.mark.parametrize("request_", ["keep", "cancel"])
@pytest.mark.parametrize(("phase", "steps"), [("evaluating", 0), ("generating answers", 0), ("testing", 2)])
def test_a_stop_acts_within_one_batch_of_whatever_is_judged(phase, steps, request_, tmp_path, monkeypatch):
    """A run once answered only after the whole validation split had been judged, which took minutes."""
    monkeypatch.setattr(pack, "SHOWN_EVERY_S", 0.0)
    spec = spec_for("math-lm", "math-chain", components="2,4,1", steps=2, batch_size=2, eval_every=2)
    spec = spec.with_(eval_examples=24, test_examples=24)
    told, after = [], []

    def control(_index):
        stop = any(event["kind"] == "progress" and event["phase"] == phase for event in told)
        after.append(stop)
        return request_ if stop else None

    for _, event in train(resolve_runs([spec]), [tmp_path], control):
        told.append(event.to_dict())
    if request_ == "cancel":
        assert told[-1]["kind"] == "cancelled"
        assert [event["kind"] for event in told if event["kind"] == "progress" and event["phase"] == phase] == [
            "progress"
        ], "nothing more was judged"
    else:
        assert told[-1]["kind"] == "final"
        assert told[-1]["stopped"] is True
        assert told[-1]["metrics"]["steps_done"] == steps
        assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
        if phase != "testing":
            saving = next(i for i, event in enumerate(told) if event == {"kind": "phase", "phase": "saving"})
            looked = [event for event in told[:saving] if event["kind"] == "progress" and event["phase"] == phase]
            assert len(looked) == 1, "the look was left at once"


@pytest.mark.parametrize("init_weights", ["kaiming", "gradient"])
def test_a_resumed_run_equals_an_uninterrupted_one(init_weights, tmp_path):
    start = {"components": "2,4,1", "init_weights": init_weights}
    spec = spec_for(*DIGITS, **start, checkpoint_every=4, **{**SHORT, "steps": 10})
    (whole,) = events_of([spec], tmp_path / "whole")
    stream = train(resolve_runs([spec, spec.with_(seed=1)]), [tmp_path / "cut", tmp_path / "other"])
    for index, event in stream:
        if index == 0 and isinstance(event, Step) and event.step == 5:
            break
    stream.close()
    events = [event.to_dict() for _, event in train(resolve_runs([spec]), [tmp_path / "cut"])]
    assert next(e for e in events if e["kind"] == "resumed")["step"] == 4
    assert losses(events) == pytest.approx(losses(whole)[4:], rel=1e-6)
    assert final(events)["metrics"]["test/accuracy"] == final(whole)["metrics"]["test/accuracy"]


def test_long_runs_are_saved_by_time_and_a_retry_goes_on_from_there(tmp_path, monkeypatch):
    """Nobody has to ask for checkpoints: at an evaluation, when enough time has passed."""
    spec = spec_for(*DIGITS, components="2,4,1", **{**SHORT, "steps": 10, "eval_every": 3})
    assert spec.checkpoint_every == 0
    (whole,) = events_of([spec], tmp_path / "whole")
    assert not list((tmp_path / "whole").rglob("checkpoint")), "a short run writes none"
    monkeypatch.setattr(Checkpoints, "AT_LEAST_S", 0.0)
    monkeypatch.setattr(Checkpoints, "SHARE", 1e9)
    stream = train(resolve_runs([spec]), [tmp_path / "cut"])
    for _, event in stream:
        if isinstance(event, Step) and event.step == 8:
            break
    stream.close()
    (tmp_path / "cut" / "checkpoint").rename(tmp_path / "cut" / "checkpoint.old")  # killed while replacing it
    events = [event.to_dict() for _, event in train(resolve_runs([spec]), [tmp_path / "cut"])]
    assert next(e for e in events if e["kind"] == "resumed")["step"] == 6
    assert losses(events) == pytest.approx(losses(whole)[6:], rel=1e-6)
    assert final(events)["metrics"]["test/accuracy"] == final(whole)["metrics"]["test/accuracy"]


def test_checkpoints_cost_little_time_and_full_fine_tuning_writes_none_unasked(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("cdka.train.checkpoint.time.monotonic", lambda: clock[0])

    def slow(member, folder):
        clock[0] += 10.0

    monkeypatch.setattr("cdka.train.checkpoint.save_checkpoint", slow)
    spec = spec_for(*DIGITS, components="2,4,1", steps=100)
    timed = Checkpoints(spec)
    assert not timed.due(20, evaluated=True), "too early"
    clock[0] = 61.0
    assert timed.due(20, evaluated=True)
    assert not timed.due(21, evaluated=False)
    assert not timed.due(100, evaluated=True), "the end saves the adapter"
    timed.save([SimpleNamespace(directory=Path("nowhere"))])
    clock[0] += 499.0
    assert not timed.due(40, evaluated=True), "saving took 10 s: the next is at least 500 s away"
    clock[0] += 1.0
    assert timed.due(40, evaluated=True)
    full = Checkpoints(spec_for(*DIGITS, method="full", steps=100))
    clock[0] += 1e6
    assert not full.due(40, evaluated=True)
    asked = Checkpoints(spec_for(*DIGITS, method="full", steps=100, checkpoint_every=7))
    assert [step for step in range(1, 30) if asked.due(step, evaluated=False)] == [7, 14, 21, 28]


def test_gradient_accumulation_changes_nothing_but_memory(tmp_path):
    spec = spec_for(*DIGITS, components="2,4,1", dtype="float64", **SHORT)
    (once,) = events_of([spec], tmp_path / "a")
    (thrice,) = events_of([spec.with_(gradient_accumulation=3)], tmp_path / "b")
    assert losses(thrice) == pytest.approx(losses(once), rel=1e-10)


def test_runs_that_disagree_are_not_packed(tmp_path):
    spec = spec_for(*DIGITS, components="2,4,1", **SHORT)
    with pytest.raises(CdkaError, match="runs of one pack must agree in steps: got"):
        events_of([spec, spec.with_(steps=7)], tmp_path)


def test_text_counts_the_tokens_it_has_read_also_across_a_resumption_and_images_have_none(tmp_path):
    spec = spec_for("math-lm", "math-chain", components="2,4,1", **SHORT | {"checkpoint_every": 2})
    (whole,) = events_of([spec], tmp_path / "whole")
    read = [event["tokens"] for event in whole if event["kind"] == "step"]
    data = load_task(find_task(spec.task), spec).train
    order = data_order(len(data), spec.batch_size, spec.seed)
    lengths = data.source.lengths + data.target.lengths
    assert read == torch.stack([lengths[next(order)].sum() for _ in range(spec.steps)]).cumsum(0).tolist()
    stream = train(resolve_runs([spec]), [tmp_path / "cut"])
    for _, event in stream:
        if isinstance(event, Step) and event.step == 3:
            break
    stream.close()
    rest = [event.to_dict() for _, event in train(resolve_runs([spec]), [tmp_path / "cut"])]
    assert [event["tokens"] for event in rest if event["kind"] == "step"] == read[2:]
    (images,) = events_of([spec_for(*DIGITS, components="2,4,1", **SHORT)], tmp_path / "images")
    assert not any("tokens" in event for event in images)
