"""Simulated: the intervals of studies cover what their sentences claim, and the table of claims holds its 5 %."""

from __future__ import annotations

import numpy as np
import pytest

from cdka.stats import holm, t_test
from cdka.stats.intervals import band

TEST_DIGITS = 597


def differences(rng, draws, bases, effect, between, seeds=2):
    """The mean over seeds of the difference of two arms, by draw and base, as studies over bases compute it.

    Every base has its own effect and its own test digits; arms share the digits, so that each adds binomial noise.
    """
    own = rng.normal(effect, between, size=(draws, bases, 1))
    level = np.clip(rng.normal(0.9, 0.02, size=(draws, bases, 1)), 0.5, 0.97)
    run = [rng.normal(0, 0.006, size=(draws, bases, seeds)) for _ in range(2)]
    with_, without = np.clip(level + own / 2 + run[0], 0, 1), np.clip(level - own / 2 + run[1], 0, 1)
    return ((rng.binomial(TEST_DIGITS, with_) - rng.binomial(TEST_DIGITS, without)) / TEST_DIGITS).mean(axis=2)


@pytest.mark.parametrize("bases", [3, 5])
@pytest.mark.parametrize("between", [0.0, 0.01, 0.05])
def test_new_bases_are_covered_in_93_to_97_percent(bases, between):
    values = differences(np.random.default_rng(bases), 6000, bases, 0.02, between)
    _, _, _, low, high = band(values)
    low, high = (np.where(np.isfinite(end), end, infinite) for end, infinite in ((low, -np.inf), (high, np.inf)))
    assert 0.93 <= np.mean((low <= 0.02) & (high >= 0.02)) <= 0.97


def test_seeds_of_one_base_do_not_cover_new_bases():
    """What 0.1.0 did: ten seeds on one base say nothing of the next one."""
    rng = np.random.default_rng(0)
    own = rng.normal(0.02, 0.05, size=(4000, 1))
    _, _, _, low, high = band(own + rng.normal(0, 0.008, size=(4000, 10)))
    assert np.mean((low <= 0.02) & (high >= 0.02)) < 0.4


@pytest.mark.parametrize("claims", [5, 25])
def test_a_table_of_claims_without_any_effect_has_a_false_one_in_at_most_5_percent(claims):
    """Holm over the table, as reports print it: claims of one study share its bases, so they are not independent."""
    rng, draws = np.random.default_rng(claims), 2500
    shared = rng.normal(0, 0.01, size=(draws, 1, 5))
    values = np.round((shared + rng.normal(0, 0.01, size=(draws, claims, 5))) * TEST_DIGITS) / TEST_DIGITS
    p = t_test(values)
    false = np.array([holm(one).min() < 0.05 for one in p])
    assert false.mean() <= 0.05
    assert (p.min(axis=1) < 0.05).mean() > 0.1, "without Holm it would be far more"
