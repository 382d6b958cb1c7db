"""Does alignment predict? On runs made so that the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from cdka.align import does_it_predict
from cdka.errors import CdkaError
from cdka.solver import evaluate
from cdka.stats.rank_correlation import spearman

GRID = [(r1, r2, r) for r1 in (1, 2, 4) for r2 in (2, 4, 8) for r in (1, 2)]


def runs(score, seeds=3, noise=0.005, **columns):
    rng = np.random.default_rng(0)
    rows = []
    for c in GRID:
        option = evaluate("digits-vit", c)
        rows += [
            {
                "model": "digits-vit",
                "task": "digits-flip",
                "method": "cdka",
                "r1": c[0],
                "r2": c[1],
                "r": c[2],
                "lr": 1e-3,
                "steps": 100,
                "alpha": 8.0,
                "batch_size": 64,
                "seed": seed,
                "num_params": option.num_params,
                "test/accuracy": score(option) + noise * rng.standard_normal(),
                **columns,
            }
            for seed in range(seeds)
        ]
    return pd.DataFrame(rows).astype({"r1": "Int64", "r2": "Int64", "r": "Int64"})


def test_runs_that_follow_alignment_say_so():
    got = does_it_predict(runs(lambda o: o.alignment))
    assert got.rho > 0.9
    assert 0 < got.ci_low <= got.rho <= got.ci_high <= 1
    assert (got.configurations, got.runs) == (18, 54)
    assert got.sentence().startswith("Higher predicted alignment went with higher accuracy")
    x, y = got.points["predictor"], got.points["mean"]
    assert got.rho == pytest.approx(spearmanr(x, y).statistic)


def test_a_verdict_is_plain_data():
    got = does_it_predict(runs(lambda o: o.alignment))
    document = json.loads(json.dumps(got.to_json()))
    assert document["rho"] == got.rho
    assert len(document["points"]) == got.configurations


def test_runs_that_go_the_other_way_say_that_too():
    assert "went with lower" in does_it_predict(runs(lambda o: -o.alignment)).sentence()


def test_where_there_is_nothing_the_interval_covers_zero_as_often_as_it_promises():
    table = runs(lambda o: 0.5, seeds=2, noise=0)
    covered = []
    for seed in range(80):
        noise = np.random.default_rng(100 + seed).standard_normal(len(table))
        got = does_it_predict(table.assign(**{"test/accuracy": 0.5 + 0.1 * noise}))
        covered.append(got.ci_low < 0 < got.ci_high)
        if covered[-1]:
            assert got.sentence().startswith("These runs do not show")
    assert np.mean(covered) > 0.9


def test_other_predictors():
    by_cost = does_it_predict(runs(lambda o: np.log(o.num_params)), predictor="num_params")
    assert by_cost.rho > 0.95
    assert does_it_predict(runs(lambda o: np.log(o.rank_bound)), predictor="rank_bound").rho > 0.9


def test_ties_share_a_rank_as_in_scipy():
    x, y = np.array([1, 2, 2, 3, 3, 3.0]), np.array([2, 1, 4, 4, 6, 5.0])
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(spearman(np.ones(3), np.arange(3.0)))


@pytest.mark.parametrize(
    ("frame", "settings", "words"),
    [
        (runs(lambda o: 0.5).head(6), {}, "at least 4 configurations"),
        (runs(lambda o: 0.5).assign(method="lora"), {}, "at least 4 configurations"),
        (runs(lambda o: 0.5).assign(lr=lambda t: t["seed"] * 1e-3), {}, "share one lr"),
        (runs(lambda o: 0.5), {"predictor": "aligment"}, "unknown predictor"),
        (runs(lambda o: 0.5), {"metric": "acuracy"}, "Did you mean 'test/accuracy'"),
        (runs(lambda o: 0.5), {"predictor": "measured"}, "needs an alignment record"),
    ],
)
def test_bad_input(frame, settings, words):
    with pytest.raises(CdkaError, match=words):
        does_it_predict(frame, **settings)
