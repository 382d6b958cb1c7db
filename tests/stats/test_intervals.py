"""Intervals, Holm, power and verdicts against SciPy and against seeded simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cdka.errors import CdkaError
from cdka.stats import holm, interval, paired, seeds_needed, t_test
from cdka.stats.intervals import band
from cdka.stats.paired import compare_pairs, needs, reference_pairs, sentence, verdicts


def test_interval_is_scipys_student_interval():
    values = [0.91, 0.88, 0.93, 0.90, 0.86]
    ours = interval(values)
    theirs = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert ours.n == 5
    np.testing.assert_allclose((ours.low, ours.high), theirs, rtol=1e-12)
    np.testing.assert_allclose(ours.sd, np.std(values, ddof=1), rtol=1e-12)


def test_one_value_has_a_mean_and_nothing_else():
    one = interval([0.9])
    assert (one.n, one.mean) == (1, 0.9)
    assert np.isnan([one.sd, one.low, one.high]).all()
    assert np.isnan(interval([]).mean)


def test_missing_values_do_not_count():
    with_gap = band(np.array([[0.1, np.nan, 0.3], [0.1, 0.2, 0.3]]))
    assert with_gap[0].tolist() == [2, 3]
    assert interval([0.1, 0.3]).low == pytest.approx(with_gap[3][0])


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_nominal_95_percent_intervals_cover_93_to_97_percent(seeds):
    rng = np.random.default_rng(seeds)
    n, _, _, low, high = band(rng.normal(0.9, 0.02, size=(8000, seeds)))
    coverage = np.mean((low <= 0.9) & (high >= 0.9))
    assert (n == seeds).all()
    assert 0.93 <= coverage <= 0.97


def test_accuracy_like_intervals_cover_93_to_97_percent():
    """Accuracies are counts out of 597, not normal numbers; the seed's own spread comes on top."""
    rng = np.random.default_rng(7)
    truth = np.clip(rng.normal(0.85, 0.02, size=(8000, 5)), 0, 1)
    _, _, _, low, high = band(rng.binomial(597, truth) / 597)
    assert 0.93 <= np.mean((low <= 0.85) & (high >= 0.85)) <= 0.97


def test_t_test_is_scipys():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.01, 0.02, size=(20, 4))
    np.testing.assert_allclose(t_test(differences), stats.ttest_1samp(differences, 0, axis=1).pvalue, rtol=1e-10)


def test_equal_differences_never_fake_certainty():
    """Two seeds that differ by the same count of examples have SD 0, hence an infinite t: it must not decide."""
    assert t_test(np.array([5 / 597, 5 / 597])) == 0.5
    assert t_test(np.full(6, 5 / 597)) == pytest.approx(2 / 64)
    assert t_test(np.zeros(3)) == 1.0


def test_holm_is_scipys_step_down():
    p = np.array([0.01, 0.04, 0.03, 0.005, np.nan])
    # by hand: 0.005*4, 0.01*3, 0.03*2, then 0.04*1 raised to 0.06
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02, np.nan])


@pytest.mark.parametrize("arms", [4, 8])
@pytest.mark.parametrize("reference", ["a0", None])
def test_family_false_positives_stay_at_5_percent_under_the_null(arms, reference):
    """20,000 sweeps in which nothing differs: a shared effect of the seed, noise of the run, accuracies of 597."""
    rng = np.random.default_rng(arms)
    names = [f"a{i}" for i in range(arms)]
    pairs = reference_pairs(names, reference)
    seeds = rng.normal(0, 0.03, size=(20_000, 1, 5))
    values = np.round((0.85 + seeds + rng.normal(0, 0.01, size=(20_000, arms, 5))) * 597) / 597
    left, right = np.array([(names.index(a), names.index(b)) for a, b in pairs]).T
    p = t_test(values[:, left] - values[:, right])
    false = p.min(axis=1) * len(pairs) < 0.05  # Holm rejects anything if and only if Bonferroni does
    assert false.mean() <= 0.05
    for one in [*range(100), *np.flatnonzero(false)[:20]]:
        found = verdicts(pd.DataFrame(values[one], index=names), pairs, estimate_seeds=False)
        assert (found["verdict"] != "not resolved").any() == false[one]


def test_pairing_sees_through_the_seed():
    """A difference that is small beside the seeds' spread is resolved because both arms share the seeds."""
    seeds = np.array([0.70, 0.80, 0.90, 0.75, 0.85])
    wiggle = np.array([1, -1, 1, -1, 0]) * 1e-3
    table = pd.DataFrame([seeds, seeds + 0.02 + wiggle], index=["a", "b"])
    row = verdicts(table, [("b", "a")]).iloc[0]
    assert row["verdict"] == "better"
    assert row["p"] == pytest.approx(stats.ttest_rel(table.loc["b"], table.loc["a"]).pvalue)
    assert stats.ttest_ind(table.loc["b"], table.loc["a"]).pvalue > 0.5
    assert verdicts(table, [("b", "a")], higher_is_better=False).iloc[0]["verdict"] == "worse"


def test_seeds_not_shared_fall_back_on_welch_and_say_so():
    table = pd.DataFrame([[0.9, 0.91, np.nan, np.nan], [np.nan, np.nan, 0.5, 0.52]], index=["a", "b"])
    row = compare_pairs(table, [("a", "b")]).iloc[0]
    theirs = stats.ttest_ind([0.9, 0.91], [0.5, 0.52], equal_var=False)
    assert row["n"] == 0
    assert row["p"] == pytest.approx(theirs.pvalue)
    assert "Welch" in row["test"]


def test_unresolved_verdict_says_how_many_more_seeds():
    table = pd.DataFrame([[0.90, 0.92, 0.91], [0.89, 0.88, 0.92]], index=["a", "b"])
    row = verdicts(table, [("a", "b")]).iloc[0]
    assert row["verdict"] == "not resolved"
    assert row["more_seeds"] == seeds_needed(row["difference"], row["sd"]) - 3
    assert row["more_seeds_low"] < row["more_seeds"]
    assert pd.isna(row["more_seeds_high"]), "zero lies within the interval of the effect"
    assert f"needs about {row['more_seeds']} more seeds ({row['more_seeds_low']} to over 1,000)" in sentence(row)


def test_no_evidence_of_a_difference_is_not_evidence_of_none():
    """0.1.0 said "no difference to speak of" beside an interval of +-0.05."""
    table = pd.DataFrame([[0.90, 0.94, 0.8601, 0.90], [0.90, 0.90, 0.90, 0.90]], index=["a", "b"])
    row = verdicts(table, [("a", "b")]).iloc[0]
    assert pd.isna(row["more_seeds"])
    assert needs(row) == "differences up to 0.052 are not excluded"


def test_equal_scores_get_no_interval_rather_than_one_of_no_width():
    found = interval([0.968, 0.968, 0.968])
    assert (found.n, found.sd) == (3, 0.0)
    assert np.isnan([found.low, found.high]).all()
    table = pd.DataFrame([[0.91, 0.92], [0.90, 0.91]], index=["a", "b"])
    row = compare_pairs(table, [("a", "b")]).iloc[0]
    assert row["p"] == 0.5
    assert np.isnan(row["ci_low"])
    assert "agree to the last digit" in sentence(verdicts(table, [("a", "b")]).iloc[0])


def test_the_interval_of_an_accuracy_stays_among_accuracies():
    scores = [0.72, 0.45, 0.99]
    assert interval(scores).high > 1
    assert interval(scores, bounds=(0, 1)).high == 1
    assert interval(scores, bounds=(0, 1)).low == max(0, interval(scores).low)


def test_arrays_and_frames_give_the_same():
    frame = pd.DataFrame([[0.9, 0.8, 0.85], [0.7, np.nan, 0.75]], index=["a", "b"])
    table = interval(frame)
    for arm in frame.index:
        one = interval(frame.loc[arm])
        np.testing.assert_array_equal(table.loc[arm], [one.n, one.mean, one.sd, one.low, one.high])
    with pytest.raises(CdkaError, match="one score per seed: got an array of shape"):
        interval(frame.to_numpy())


def test_two_arms_are_paired_by_seed_and_the_missing_seed_does_not_count():
    a, b = pd.Series([0.9, 0.8, 0.7], index=[0, 1, 2]), pd.Series([0.6, 0.85, 0.88], index=[2, 0, 1])
    ours, theirs = paired(a, b), stats.ttest_rel(a, b.loc[[0, 1, 2]])
    assert (ours.n, ours.p) == (3, pytest.approx(theirs.pvalue))
    np.testing.assert_allclose((ours.low, ours.high), theirs.confidence_interval())
    assert paired(a, b.drop(1)).n == 2
    with pytest.raises(CdkaError, match="in the same order"):
        paired([0.9, 0.8], [0.9])


def test_single_seed_asks_for_two():
    row = verdicts(pd.DataFrame([[0.9], [0.8]], index=["a", "b"]), [("a", "b")]).iloc[0]
    assert row["verdict"] == "not resolved"
    assert needs(row) == "needs at least two shared seeds"
