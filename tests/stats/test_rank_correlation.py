"""Rank correlation against SciPy, and its interval against seeded simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from cdka.errors import CdkaError
from cdka.stats import rank_correlation
from cdka.stats.rank_correlation import spearman


def test_it_is_scipys_with_ties_and_an_interval_around_it():
    x, y = [1, 2, 2, 3, 3, 3, 7, 8], [2, 1, 4, 4, 6, 5, 9, 3]
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    assert -1 < found.low < found.rho < found.high < 1
    assert (found.p < 0.05) == (found.low > 0)


@pytest.mark.parametrize(("points", "strength"), [(8, 0.0), (8, 0.8), (12, 0.3), (12, 0.8), (30, 0.0), (30, 0.6)])
def test_the_interval_covers_93_to_97_percent(points, strength):
    """Of the rank correlation of a population of normal pairs, which is 6 / pi arcsin(strength / 2)."""
    rng = np.random.default_rng([points, int(10 * strength)])
    x = rng.standard_normal((3000, points))
    y = strength * x + np.sqrt(1 - strength**2) * rng.standard_normal((3000, points))
    truth = 6 / np.pi * np.arcsin(strength / 2)
    found = [rank_correlation(a, b) for a, b in zip(x, y, strict=True)]
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.97
    if strength == 0:
        assert np.mean([one.p < 0.05 for one in found]) <= 0.055


def test_a_perfect_order_of_few_points_keeps_a_wide_interval_and_a_flat_side_knows_nothing():
    assert rank_correlation(range(4), range(4)).low < 0, "one order in twelve is perfect by chance"
    assert 0.9 < rank_correlation(range(30), range(30)).low < 1
    flat = rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])
    assert np.isnan(flat.rho)
    assert (flat.low, flat.high, flat.p) == (-1, 1, 1)


def test_too_few_points_are_refused():
    with pytest.raises(CdkaError, match="at least 4 points"):
        rank_correlation([1, 2, 3], [1, 2, 3])
    with pytest.raises(CdkaError, match="one length"):
        rank_correlation([1, 2, 3, 4], [1, 2, 3, 4, 5])


def test_many_series_at_once_have_one_correlation_each():
    x = np.arange(12.0).reshape(2, 6)
    assert spearman(x, -x).tolist() == [-1, -1]
