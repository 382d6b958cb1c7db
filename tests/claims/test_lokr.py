"""The factorial study tells design, rate and size apart, and its parts add up to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from finished_study import finished

from cdka.claims import STUDIES, judge, plan_study
from cdka.claims.bases import FAMILIES
from cdka.claims.judge import SUPPORTED, UNRESOLVED
from cdka.claims.lokr import SQUARE, THIN, shares
from cdka.cost.adapter import num_params
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.store import Store

FAMILY = FAMILIES["digits-vit"]


def test_parts_of_a_sum_are_its_terms_and_an_interaction_is_shared():
    assert shares(lambda d, r, s: 0.5 + 0.1 * d + 0.2 * r - 0.05 * s) == pytest.approx([0.1, 0.2, -0.05])
    assert shares(lambda d, r, s: 0.5 + 0.3 * (d and r)) == pytest.approx([0.15, 0.15, 0.0])
    rng = np.random.default_rng(0)
    table = rng.random((2, 2, 2))
    cell = lambda d, r, s: table[int(d), int(r), int(s)]  # noqa: E731
    assert shares(cell).sum() == pytest.approx(table[1, 1, 1] - table[0, 0, 0])


def test_the_designs_cost_the_same_and_the_sizes_are_eight_times_apart():
    layers = select(find_model("digits-vit"))
    (square_small, square_large), (small, large) = ([num_params(layers, c) for c in row] for row in (SQUARE, THIN))
    assert large == square_large == 8 * small
    assert square_small == pytest.approx(small, rel=0.06)
    rates = sorted({run.spec.lr for run in plan_study(STUDIES["lokr"]).runs})
    assert rates[-1] / rates[0] == pytest.approx(32)
    assert len(plan_study(STUDIES["lokr"]).runs) == 4 * 6 * len(FAMILY) * 2


def test_what_was_put_in_is_found(home):
    store = Store(home)

    def accuracy(spec):
        thin, large = spec.components in THIN, spec.components in (SQUARE[1], THIN[1])
        base = 1 + 0.1 * FAMILY.index(spec.model)
        return 0.5 + base * (0.05 * np.log2(spec.lr / 0.000375) + 0.08 * large) + 1e-4 * thin * (-1) ** spec.seed

    design, rate, size, at_best = judge(store, finished(store, "lokr", accuracy, seeds=2))
    assert (rate.verdict, size.verdict, design.verdict, at_best.verdict) == (
        SUPPORTED,
        SUPPORTED,
        UNRESOLVED,
        UNRESOLVED,
    )
    assert rate.effect == pytest.approx(0.25 * 1.2, abs=1e-3)
    assert size.effect == pytest.approx(0.08 * 1.2, abs=1e-3)
    assert (rate.n, rate.counted) == (len(FAMILY), "base model")
    assert "The whole: +0.396" in rate.sentence
    assert "(1,4,8) over (16,16,17)" in at_best.sentence


def test_a_base_whose_corner_diverged_does_not_count_and_the_runs_are_told(home):
    store = Store(home)

    def accuracy(spec):
        if spec.model == FAMILY[0] and spec.components == SQUARE[1] and spec.lr > 0.01:
            return None
        return 0.5 + 0.01 * (1 + 0.2 * FAMILY.index(spec.model)) * np.log2(spec.lr / 0.000375)

    _, rate, _, at_best = judge(store, finished(store, "lokr", accuracy, seeds=2))
    assert rate.n == len(FAMILY) - 1
    assert "2 runs diverged" in rate.sentence
    assert at_best.n == len(FAMILY), "the best of the rates that work is taken"
