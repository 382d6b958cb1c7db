"""Packs beyond the loop's own tests: a language model, eight runs and every way of sharing passes, bounded logits."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from cdka.models.catalogue import find_model
from cdka.runs.events import Final, Packing, Step
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.train import forward as forward_module
from cdka.train import pack_schedule, prepare
from cdka.train.data.load import load_task
from cdka.train.loop import train
from cdka.train.member import clip

MATH = ("math-lm", "math-chain")
CONFIGURATIONS = ("2,8,4", "1,4,2", "4,2,1", "2,4,1", "8,8,1", "2,8,4", "1,1,3", "4,16,2")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """One thread, and a few examples to judge: what is compared here is training."""

    def few(task, spec):
        data = load_task(task, spec)
        return replace(data, validation=data.validation.take(torch.arange(6)), test=data.test.take(torch.arange(6)))

    monkeypatch.setattr(prepare, "load_task", few)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses_of(specs, folder):
    found = [[] for _ in specs]
    finals = [None] * len(specs)
    events = []
    for index, event in train(resolve_runs(specs), [folder / str(i) for i in range(len(specs))]):
        events.append(event)
        if isinstance(event, Step):
            found[index].append(event.loss)
        elif isinstance(event, Final):
            finals[index] = event.metrics
    return found, finals, events


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_a_pack_of_language_models_equals_separate_runs(dtype, tolerance, tmp_path):
    """Every member's loss is normalised by its own number of judged tokens, though all share one padded batch."""
    specs = [
        spec_for(*MATH, components=c, seed=seed, lr=lr, steps=50, batch_size=3, eval_every=100, dtype=dtype, alpha=8)
        for c, seed, lr in (("2,8,1", 0, 2e-3), ("4,2,2", 1, 1e-3), ("1,4,1", 2, 5e-4))
    ]
    packed, finals, _ = losses_of(specs, tmp_path / "pack")
    for i, spec in enumerate(specs):
        (alone,), (final,), _ = losses_of([spec], tmp_path / f"alone{i}")
        assert len(alone) == 50
        assert packed[i] == pytest.approx(alone, rel=tolerance)
        assert finals[i]["eval/loss"] == pytest.approx(final["eval/loss"], rel=max(tolerance, 1e-4))


def test_eight_different_runs_equal_separate_ones_in_every_way_of_sharing(tmp_path, monkeypatch):
    ways = set()
    groups = pack_schedule.PackSchedule.groups

    def watched(self, items):
        found = groups(self, items)
        ways.add(tuple(len(group) for group in found))
        return found

    monkeypatch.setattr(pack_schedule.PackSchedule, "groups", watched)
    specs = [
        spec_for(
            "digits-vit",
            "digits-flip",
            components=c,
            seed=i,
            lr=1e-3 * (i + 1),
            steps=18,
            batch_size=4,
            eval_every=100,
            dtype="float64",
            alpha=4 + i,
        )
        for i, c in enumerate(CONFIGURATIONS)
    ]
    packed, _, events = losses_of(specs, tmp_path / "pack")
    assert {(8,), (4, 4), (1,) * 8} <= ways
    (said,) = {(e.size, e.share) for e in events if isinstance(e, Packing)}
    assert said[0] == 8
    assert said[1] in (8, 4, 1)
    for i in (0, 3, 5, 7):
        (alone,), _, _ = losses_of([specs[i]], tmp_path / f"alone{i}")
        assert packed[i] == pytest.approx(alone, rel=1e-10)


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        ({8: 1.0, 4: 2.0, 1: 3.0}, 8),
        ({8: 3.0, 4: 1.0, 1: 2.0}, 4),
        ({8: 3.0, 4: 2.0, 1: 1.0}, 1),
        ({8: 1.0, 4: 1.0, 1: 1.0}, 8),
    ],
)
def test_the_fastest_way_is_kept_and_a_tie_is_packed(seconds, share):
    found = pack_schedule.PackSchedule(8, torch.device("cpu"))
    steps = 0
    while not found.decided:
        found._note(seconds[found.share])
        steps += 1
    assert found.share == share
    assert steps == 3 * (pack_schedule.WARM_UP_STEPS + pack_schedule.TRIAL_STEPS)
    assert found.together == (share > 1)
    assert found.packed_s == min(seconds[8], seconds[4])
    assert found.separate_s == seconds[1]


@pytest.mark.parametrize("size", [1, 2, 7, 9])
def test_every_run_has_its_pass_whatever_the_size(size):
    found = pack_schedule.PackSchedule(size, torch.device("cpu"))
    while True:
        assert [i for group in found.groups(range(size)) for i in group] == list(range(size))
        if found.decided:
            break
        found._note(1.0)


def test_the_logits_of_a_pack_take_no_more_memory_than_those_of_a_run(tmp_path, monkeypatch):
    """The members of a pass share one limit: what each keeps of it goes down as their number goes up."""
    spec = spec_for(*MATH, components="2,8,1", steps=2, batch_size=8, eval_every=100, dtype="float64")
    whole, _, _ = losses_of([spec.with_(seed=seed) for seed in range(4)], tmp_path / "whole")
    vocabulary = dict(find_model("math-lm").details)["vocab_size"]
    at_most, kept = 24, {}
    written, in_place = forward_module._read_hidden, forward_module.replace_by_gradient

    def counted(objective, head, hidden, labels, limit_bytes):
        rows = []
        monkeypatch.setattr(forward_module, "replace_by_gradient", lambda *a: rows.append(len(a[1])) or in_place(*a))
        found = written(objective, head, hidden, labels, limit_bytes)
        kept.setdefault(limit_bytes, []).append(max(rows) * 4 * vocabulary)
        assert len(rows) > 1, "more tokens than the limit holds: in chunks"
        return found

    monkeypatch.setattr(forward_module, "LOGITS_LIMIT_BYTES", {"cpu": at_most * 4 * vocabulary})
    monkeypatch.setattr(forward_module, "WHOLE_LOGITS", 0)
    monkeypatch.setattr(forward_module, "_read_hidden", counted)
    chunked, _, _ = losses_of([spec.with_(seed=seed) for seed in range(4)], tmp_path / "chunked")
    assert chunked == [pytest.approx(one, rel=1e-12) for one in whole]
    packed, alone = min(kept), max(kept)
    assert packed == alone // 4 == forward_module.LOGITS_LIMIT_BYTES["cpu"] // 4
    assert all(size <= limit for limit, sizes in kept.items() for size in sizes)


def test_clipping_is_that_of_torch():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((3, 5), (7,), (2,))]
    for p in ours[:2]:
        p.grad = 9 * torch.randn_like(p)
    theirs = copy.deepcopy(ours)
    for p, q in zip(ours, theirs, strict=True):
        q.grad = None if p.grad is None else p.grad.clone()
    for limit in (1e6, 1.0):
        norm, expected = clip(ours, limit), torch.nn.utils.clip_grad_norm_(theirs, limit)
        torch.testing.assert_close(norm, expected)
        for p, q in zip(ours[:2], theirs[:2], strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    for p in ours:
        p.grad = torch.full_like(p, torch.inf)
    assert not clip(ours, 1.0).isfinite(), "a norm that is not finite is told, and the run ends"
