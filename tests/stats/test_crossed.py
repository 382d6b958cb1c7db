"""The interval over units and examples against a crossed bootstrap and against seeded populations."""

from __future__ import annotations

import numpy as np
import pytest

from cdka.errors import CdkaError
from cdka.stats import crossed, interval

EXAMPLES, MEAN = 400, 3.0


def answers(rng: np.random.Generator, units: int, by_unit: float, by_example: float) -> np.ndarray:
    """Right or wrong by unit and example: the logit is the example's easiness plus the unit's skill."""
    skill, easiness = rng.normal(0, by_unit, (units, 1)), rng.normal(MEAN, by_example, EXAMPLES)
    return (rng.random((units, EXAMPLES)) < 1 / (1 + np.exp(-(skill + easiness)))).astype(float)


def truth(by_unit: float, by_example: float) -> float:
    """The expected accuracy of a new unit on a new example, by Gauss-Hermite quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    logits = MEAN + np.hypot(by_unit, by_example) * points
    return float(np.sum(weights / (1 + np.exp(-logits))) / weights.sum())


@pytest.mark.parametrize("units", [2, 3, 5, 10])
@pytest.mark.parametrize(("by_unit", "by_example"), [(0.05, 2.5), (0.3, 2.5), (0.6, 2.0)])
def test_new_units_and_new_examples_are_covered_in_93_to_98_percent(units, by_unit, by_example):
    rng, true = np.random.default_rng(units), truth(by_unit, by_example)
    hits = []
    for _ in range(800):
        found = crossed(answers(rng, units, by_unit, by_example))
        hits.append(found.low <= true <= found.high)
    assert 0.92 <= np.mean(hits) <= 0.985  # 800 draws: +-0.015


def test_new_examples_are_not_covered_by_an_interval_over_seeds():
    """What the shipped intervals of 0.1.0 were silent about: seeds that agree on 400 examples say nothing of others."""
    rng, true = np.random.default_rng(0), truth(0.05, 2.5)
    seeds_only = []
    for _ in range(400):
        found = interval(answers(rng, 5, 0.05, 2.5).mean(axis=1))
        seeds_only.append(found.low <= true <= found.high)
    assert np.mean(seeds_only) < 0.85


def test_with_many_units_it_is_the_crossed_bootstrap():
    rng = np.random.default_rng(3)
    right = answers(rng, 40, 0.5, 2.0)
    draws = [right[rng.integers(40, size=40)][:, rng.integers(EXAMPLES, size=EXAMPLES)].mean() for _ in range(2000)]
    found = crossed(right)
    assert found.mean == pytest.approx(right.mean())
    np.testing.assert_allclose((found.low, found.high), np.percentile(draws, [2.5, 97.5]), atol=0.004)


def test_it_is_never_narrower_than_the_interval_over_the_units():
    rng = np.random.default_rng(4)
    for _ in range(50):
        right = answers(rng, 4, 0.5, 1.0)
        both, units = crossed(right), interval(right.mean(axis=1))
        assert both.high - both.low >= 0.999 * (units.high - units.low) * 0.9
        assert both.sd == pytest.approx(units.sd)


def test_bad_input_is_told_in_words():
    for bad in ([0.9, 0.8], [[1.0, 0.0]], [[1.0, np.nan], [0.0, 1.0]]):
        with pytest.raises(CdkaError, match="at least two of each"):
            crossed(bad)
    assert np.isnan(crossed(np.ones((3, 5))).low)
