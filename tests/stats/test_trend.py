"""Slopes across seeds, their coverage, and the interaction between series; the front in arrays."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import cdka.stats
from cdka.errors import CdkaError
from cdka.stats import pareto, trend
from cdka.stats.trend import interaction

LEVELS = [1, 2, 4, 8]


def test_a_trend_is_least_squares_in_each_seed_and_t_over_seeds():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.8, 0.02, size=(4, 5)) - 0.03 * np.arange(4)[:, None]
    by_hand = [np.polyfit(np.log2(LEVELS), column, 1)[0] for column in scores.T]
    found = trend(LEVELS, pd.DataFrame(scores, index=LEVELS))
    assert found.slope == pytest.approx(np.mean(by_hand))
    assert found.p == pytest.approx(stats.ttest_1samp(by_hand, 0).pvalue)
    assert found.low < -0.03 < found.high
    scores[1, 2] = np.nan
    assert trend(LEVELS, scores).n == 4


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_slopes_are_covered_in_93_to_97_percent_and_false_in_5(seeds):
    rng = np.random.default_rng(seeds)
    shared = rng.normal(0, 0.03, size=(4000, 1, seeds))
    runs = shared + rng.normal(0, 0.01, size=(4000, 4, seeds)) - 0.02 * np.arange(4)[:, None]
    found = [trend(LEVELS, one) for one in runs]
    assert 0.93 <= np.mean([one.low <= -0.02 <= one.high for one in found]) <= 0.97
    null = [trend(LEVELS, one + 0.02 * np.arange(4)[:, None]).p for one in runs]
    assert np.mean(np.array(null) < 0.05) <= 0.06  # +-0.007


def test_the_interaction_is_false_in_5_percent_and_found_where_series_differ():
    rng = np.random.default_rng(1)
    null = [interaction(rng.normal(0.01, 0.01, size=(4, 5))) for _ in range(2000)]
    assert np.mean(np.array(null) < 0.05) == pytest.approx(0.05, abs=0.015)
    apart = np.array([[0.05], [0.0], [0.0], [0.0]]) + rng.normal(0, 0.008, size=(4, 5))
    assert interaction(apart) < 0.01
    assert np.isnan(interaction(np.ones((1, 5))))


def test_the_front_takes_scores_and_a_price_per_arm():
    rng = np.random.default_rng(2)
    scores = pd.DataFrame(np.array([[0.8], [0.9], [0.85]]) + rng.normal(0, 0.005, (3, 5)), index=["s", "m", "l"])
    assert pareto(scores, {"s": 1, "m": 2, "l": 3}).to_dict() == {"s": "on", "m": "on", "l": "off"}
    assert pareto(scores, {"s": 1, "m": 2}).to_dict() == {"s": "on", "m": "on", "l": None}
    assert pareto(scores, {"s": 1, "m": 2, "l": 3}, higher_is_better=False)["m"] == "off"


def test_bad_input_is_told_in_words():
    with pytest.raises(CdkaError, match="a row of scores for each"):
        trend([1, 2, 4], np.ones((2, 3)))


MODULES = [module.name for module in pkgutil.iter_modules(cdka.stats.__path__, "cdka.stats.")]


@pytest.mark.parametrize("name", ["cdka.stats", *MODULES])
def test_the_examples_of_the_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_statistics_need_neither_torch_nor_a_store():
    code = (
        "import sys; from cdka.stats import interval, paired, trend, holm, pareto, crossed; "
        "sys.exit(' '.join(m for m in ('torch', 'streamlit', 'cdka.runs.store') if m in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
