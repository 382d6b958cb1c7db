"""Further seeds: their number with its range, and the rule under which adding some keeps 5 %."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cdka.errors import CdkaError
from cdka.stats import seeds_needed, seeds_range, t_test, verdicts

DRAWS = 20_000


def looks(at: tuple[int, ...], level: float, seed: int = 0) -> float:
    """The share of null experiments that are resolved at any of the looks, each at ``level``."""
    values = np.random.default_rng(seed).normal(size=(DRAWS, max(at)))
    return float(np.mean(np.any([t_test(values[:, :n]) < level for n in at], axis=0)))


def test_topping_up_until_resolved_gives_two_to_four_times_the_false_positives():
    assert 0.08 < looks((3, 8), 0.05) < 0.11
    assert 0.14 < looks((3, 6, 9, 12, 15, 18), 0.05) < 0.21


@pytest.mark.parametrize("at", [(2, 5), (3, 8), (5, 30), (3, 6)])
def test_one_planned_top_up_holds_5_percent(at):
    assert looks(at, 0.05 / 2) <= 0.05


def test_as_many_seeds_as_the_first_look_asks_for_must_be_judged_alone():
    """A second look whose size the first one chose is no planned look: the pooled test exceeds its 2.5 %."""
    values = np.random.default_rng(1).normal(size=(3000, 80))
    pooled = fresh = 0
    for one in values:
        first = float(t_test(one[:3])) < 0.025
        needed = seeds_needed(one[:3].mean(), one[:3].std(ddof=1), 0.975) or 60
        more = min(60, max(2, needed - 3))
        pooled += first or float(t_test(one[: 3 + more])) < 0.025
        fresh += first or float(t_test(one[3 : 3 + more])) < 0.025
    assert fresh / len(values) <= 0.05 + 0.008  # +-0.004
    assert pooled / len(values) > 0.055


def test_verdicts_hold_each_of_two_looks_to_half_of_5_percent():
    rng = np.random.default_rng(2)
    false = []
    for _ in range(500):
        table = pd.DataFrame(rng.normal(size=(4, 8)), index=list("abcd"))
        pairs = [(arm, "a") for arm in "bcd"]
        found = [
            verdicts(table.iloc[:, :n], pairs, estimate_seeds=False, looks=2)["verdict"].ne("not resolved").any()
            for n in (3, 8)
        ]
        false.append(any(found))
    assert np.mean(false) <= 0.05
    between = pd.DataFrame([[1.0, 1.2, 1.1], [0.9, 1.04, 1.02]], index=["a", "b"])
    assert 0.025 < verdicts(between, [("a", "b")]).iloc[0]["p_holm"] < 0.05
    told = [verdicts(between, [("a", "b")], looks=n).iloc[0]["verdict"] for n in (1, 2)]
    assert told == ["better", "not resolved"]
    with pytest.raises(CdkaError, match="looks must be at least 1"):
        verdicts(table, pairs, looks=0)


def test_the_range_of_needed_seeds_covers_the_truth_in_about_80_percent():
    rng, hits = np.random.default_rng(3), []
    needed = seeds_needed(0.8, 1.0)
    for _ in range(400):
        seen = rng.normal(0.8, 1.0, size=6)
        low, high = seeds_range(seen.mean(), seen.std(ddof=1), 6)
        hits.append(low <= needed and (high is None or needed <= high))
    assert 0.74 <= np.mean(hits) <= 0.88


def test_seeds_needed_reaches_80_percent_power_in_simulation():
    needed = seeds_needed(0.01, 0.012)
    rng = np.random.default_rng(1)
    draws = rng.normal(0.01, 0.012, size=(6000, needed))
    assert np.mean(t_test(draws) < 0.05) == pytest.approx(0.8, abs=0.06)
    assert np.mean(t_test(draws[:, : needed - 3]) < 0.05) < 0.8


def test_seeds_needed_gives_up_on_nothing():
    assert seeds_needed(0.0, 0.01) is None
    assert seeds_needed(1e-6, 0.01) is None
    assert seeds_needed(0.01, 0.0) == 6  # the sign-flip test's least p is 2 / 2^n
    assert seeds_range(0.01, 0.0, 3) == (None, None)
