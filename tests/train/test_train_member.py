"""Data order and schedule against their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from cdka.runs.resolve import spec_for
from cdka.train.member import data_order, learning_rate


def test_each_epoch_visits_every_row_once_and_batches_run_across_epochs():
    drawn = torch.cat(list(itertools.islice(data_order(10, 4, seed=3), 5)))
    assert len(drawn) == 20
    assert sorted(drawn[:10].tolist()) == list(range(10))
    assert sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()


def test_a_seed_is_one_data_order():
    def first(seed):
        return next(data_order(100, 16, seed)).tolist()

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_batch_larger_than_the_data_is_filled_from_further_epochs():
    assert torch.bincount(next(data_order(3, 7, seed=0)), minlength=3).min() >= 2


def test_warm_up_rises_linearly_to_the_peak_and_cosine_ends_near_zero():
    spec = spec_for("digits-vit", "digits-flip", steps=100, lr=0.5, warmup_ratio=0.1)
    rates = [learning_rate(spec, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert max(rates) == pytest.approx(0.5)
    middle = 10 + 45
    assert rates[middle] == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[-1] < 0.001
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_a_constant_schedule_stays_at_the_peak():
    spec = spec_for("digits-vit", "digits-flip", steps=10, lr=0.5, warmup_ratio=0.0, schedule="constant")
    assert {learning_rate(spec, step) for step in range(10)} == {0.5}
