"""The headline: the best CDKA arm against LoRA at equal price, and what it says when it cannot be sure."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from compare_synthetic import FakeSource, grid

from cdka.compare.comparison import compare
from cdka.compare.headline import exchange, headline
from cdka.runs.spec import RunSpec
from cdka.stats.trend import sentence


def lora(rank: int, seeds: int = 3) -> list[RunSpec]:
    return [
        RunSpec("digits-vit", "digits-flip", method="lora", rank=rank, seed=s, steps=120, lr=2e-3, alpha=8.0)
        for s in range(seeds)
    ]


def value(spec: RunSpec) -> float:
    base = 0.9 if spec.method == "lora" else 0.9 + 0.01 * spec.components.r2 - 0.02 * (spec.components.r1 - 1)
    return base + 0.001 * spec.seed * (1 if spec.method == "lora" else -1)


def test_the_best_arm_stands_against_lora_of_its_own_price():
    found = headline(compare(FakeSource([*grid(r1=(1, 2), r2=(2, 4), r=(1,)), *lora(1), *lora(8)], value)))
    assert found.best.label == "cdka 2,2,1", "1,4,1 scores higher, at a price that no LoRA here has"
    assert found.rival is not None
    assert found.equal_price
    assert abs(found.best.num_params / found.rival.num_params - 1) <= 0.1
    assert found.verdict in found.conclusion()
    assert "95 % interval" in found.conclusion()


def test_an_unequal_price_is_said():
    found = headline(compare(FakeSource([*grid(r1=(1,), r2=(4,), r=(1,)), *lora(64)], value)))
    assert not found.equal_price
    assert "Not at equal price" in found.conclusion()


def test_a_verdict_says_of_which_comparisons_it_is():
    few = headline(compare(FakeSource([*grid(r1=(2,), r2=(2,), r=(1,)), *lora(1)], value)))
    assert few.comparisons == 1
    assert "alone" not in few.conclusion(), "one comparison needs no correction"
    whole = compare(FakeSource([*grid(r1=(1, 2, 4), r2=(2, 4), r=(1,)), *lora(1)], value))
    found = headline(whole)
    row = whole.verdicts[(whole.verdicts["a"] == found.best.arm) & (whole.verdicts["b"] == found.rival.arm)].iloc[0]
    assert (found.corrected, found.comparisons) == (row["verdict"], 6)
    assert "for this pair alone" in found.conclusion()
    by_itself = replace(found, verdict="better", corrected="not resolved").conclusion()
    assert "better for this pair alone; not resolved with Holm's correction over 6 comparisons." in by_itself


def test_the_seeds_of_a_difference_are_those_that_both_have():
    specs = [*grid(r1=(1,), r2=(2,), r=(1,)), *lora(2, seeds=1)]
    assert (
        "over 1 shared seed: no interval, which takes two or more"
        in headline(compare(FakeSource(specs, value))).conclusion()
    )


def test_one_seed_has_no_interval_and_no_rival_no_difference():
    one = headline(compare(FakeSource([*grid(r1=(1,), r2=(2,), r=(1,), seeds=1), *lora(2, seeds=1)], value)))
    assert "no interval" in one.conclusion()
    alone = headline(compare(FakeSource(grid(r1=(1, 2), r2=(2,), r=(1,)), value)))
    assert alone.rival is None
    assert "no other method was tried" in alone.sentence("test accuracy")
    assert headline(compare(FakeSource(lora(2), value))) is None


def test_a_trend_names_the_parameters_that_grow_along_it():
    found = compare(FakeSource(grid(r1=(1,), r2=(2, 4, 8), r=(1,)), value))
    row = found.trends.iloc[0]
    assert row["factor"] == "r2"
    assert "while each doubling multiplies the parameters by" in sentence(row, "test accuracy")


def test_an_interval_above_zero_that_holm_does_not_resolve_is_explained():
    found = compare(FakeSource(grid(r1=(1,), r2=(2, 4, 8), r=(1,)), value))
    row = found.trends.iloc[0].copy()
    row[["slope", "sd", "ci_low", "ci_high", "p", "p_holm", "n", "finding"]] = [
        0.0277,
        0.011,
        0.0102,
        0.0452,
        0.02,
        0.06,
        3,
        "not resolved",
    ]
    told = sentence(row, "test accuracy")
    assert "No resolved trend" not in told
    assert "clear alone, but not after Holm's correction for all trends of this comparison (p = 0.06)" in told
    assert "more seed" in told


def test_what_is_exchanged_at_equal_parameters_is_held_against_each_other(monkeypatch):
    """Three pairs of the grid are mirror images; each gains 0.02 per doubling of r2/r1."""

    def value(spec):
        return 0.5 + 0.02 * math.log2(spec.components.r2 / spec.components.r1) + 0.01 * spec.seed

    specs = grid(r1=(1, 2, 4), r2=(1, 2, 4), r=(1,), seeds=3)
    assert exchange(compare(FakeSource(specs, value))) is None, "a model of 1024 x 640: the mirror costs something else"
    monkeypatch.setattr("compare_synthetic.IN", 1024)
    found = exchange(compare(FakeSource(specs, value)))
    assert (found.pairs, found.wins, found.gain.n) == (3, 3, 3)
    assert found.gain.mean == pytest.approx((0.04 + 0.08 + 0.04) / 3, abs=0.01), "the source adds noise"
    assert "better in 3 of 3 pairs" in found.sentence("test accuracy")
    assert exchange(compare(FakeSource(grid(r1=(1,), r2=(2, 4), r=(1,)), value))) is None
