"""Arms, measures, trends, fronts, budgets and differences on made-up runs with known effects."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from compare_synthetic import FakeSource, grid

from cdka.compare.arms import arms, identify
from cdka.compare.budget import budgets, diff, equal_budget
from cdka.compare.comparison import compare, find_arm
from cdka.compare.measure import Measure, usual_metric
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.stats.mcnemar import mcnemar
from cdka.stats.trend import trends


def falls_with_r1(spec: RunSpec) -> float:
    return 0.8 if spec.components is None else 0.8 - 0.05 * math.log2(spec.components.r1)


def test_an_arm_is_everything_but_the_seed():
    specs = [*grid(r1=(1, 2)), *grid(r1=(2,), lr=1e-2)]
    source = FakeSource(specs, falls_with_r1)
    found = compare(source).arms
    assert len(found) == 3
    assert found["arm_label"].to_list() == ["cdka 1,4,1", "cdka 2,4,1 · lr 0.002", "cdka 2,4,1 · lr 0.01"]
    assert found["seeds"].to_list() == [[0, 1, 2]] * 3
    by_hand = source.frame()["test/accuracy"].iloc[:3]
    row = found.iloc[0]
    assert row["mean"] == pytest.approx(by_hand.mean())
    assert row["sd"] == pytest.approx(by_hand.std())
    assert row["ci_high"] - row["mean"] == pytest.approx(4.302653 * by_hand.std() / math.sqrt(3), rel=1e-6)


def test_settings_outside_the_frame_separate_arms():
    """target_modules is no column of the frame: only the whole specification tells these two apart."""
    specs = [*grid(r1=(2,)), *grid(r1=(2,), target_modules="attention")]
    source = FakeSource(specs, falls_with_r1)
    assert compare(source).arms["arm_label"].to_list() == [
        "cdka 2,4,1 · modules all-linear",
        "cdka 2,4,1 · modules attention",
    ]
    assert len(arms(source.frame(), Measure())) == 1


def test_a_setting_that_a_later_version_adds_changes_no_arm():
    """A run stored before a setting existed, and one that spells its default out, are of one arm."""
    source = FakeSource(grid(r1=(1,), seeds=2), lambda spec: 0.8)
    specs = source.specs()
    before = {run_id: {key: value for key, value in spec.items() if key != "dtype"} for run_id, spec in specs.items()}
    assert specs["run-0000"]["dtype"] == "auto"
    now, then = (identify(source.frame(), some)["arm"].to_list() for some in (specs, before))
    assert now == then
    other = {run_id: spec | {"dtype": "float64"} for run_id, spec in specs.items()}
    assert identify(source.frame(), other)["arm"].to_list() != now


def test_a_seed_run_twice_counts_once():
    source = FakeSource([*grid(r1=(2,)), *grid(r1=(2,), seeds=1)], falls_with_r1)
    row = compare(source).arms.iloc[0]
    assert row["n"] == 3
    assert row["mean"] == pytest.approx(source.frame()["test/accuracy"].iloc[1:].mean())


def test_removing_one_arm_changes_no_other_arm():
    source = FakeSource(grid(), falls_with_r1)
    frame = identify(source.frame(), source.specs())
    whole = arms(frame, Measure()).set_index("arm")
    hidden = frame["arm"].iloc[0]
    rest = arms(frame[frame["arm"] != hidden], Measure()).set_index("arm")
    pd.testing.assert_frame_equal(whole.drop(hidden), rest)


def test_failed_and_running_runs_are_counted_but_never_averaged():
    source = FakeSource(grid(r1=(1, 2)), falls_with_r1, status={"run-0000": "failed", "run-0004": "running"})
    comparison = compare(source)
    first, second = comparison.arms.to_dict("records")
    assert (first["n"], first["failed"], second["n"], second["waiting"]) == (2, 1, 2, 1)
    assert any("1 of 6 runs failed" in line for line in comparison.missing())
    assert any("still under way" in line for line in comparison.missing())


@pytest.mark.parametrize("status", ["failed", "queued", "running"])
def test_selections_without_a_result_compare_to_nothing_and_say_so(status):
    specs = grid(r1=(1, 2), seeds=1)
    source = FakeSource(specs, falls_with_r1, status=dict.fromkeys(["run-0000", "run-0001"], status))
    comparison = compare(source)
    assert comparison.arms["n"].sum() == 0
    assert comparison.verdicts.empty
    assert comparison.missing()
    assert comparison.pareto().isna().all()


def test_measures_say_what_they_are():
    source = FakeSource(grid(r1=(1,)), falls_with_r1)
    frame, curves = source.frame(), source.curves(source.frame()["run_id"])
    assert Measure().header == "test accuracy at the end"
    at_step = Measure("accuracy", "step", 60)
    assert at_step.header == "validation accuracy at step 60"
    expected = curves[curves["step"] == 60].set_index("run_id")["eval/accuracy"]
    np.testing.assert_allclose(at_step.values(frame, curves), expected.loc[frame["run_id"]])
    best_loss = Measure("loss", "best")
    assert not best_loss.higher_is_better
    np.testing.assert_allclose(best_loss.values(frame, curves), curves.groupby("run_id")["eval/loss"].min())
    np.testing.assert_allclose(Measure("accuracy", "best").values(frame), frame["eval/best_accuracy"])
    with pytest.raises(CdkaError, match="nearest evaluation is at step 60"):
        Measure("accuracy", "step", 61).values(frame, curves)
    with pytest.raises(CdkaError, match=r"unknown metric 'acuracy'.*'test/accuracy'"):
        Measure("acuracy").values(frame)
    with pytest.raises(CdkaError, match="measured along the way"):
        Measure("seconds", "best")


def test_trend_over_r1_is_found_and_a_flat_one_is_not():
    comparison = compare(FakeSource(grid(r1=(1, 2, 4, 8), r2=(2, 4), seeds=4), falls_with_r1))
    r1, r2 = comparison.trends.to_dict("records")
    assert (r1["factor"], r1["finding"], r1["n"], r1["series"]) == ("r1", "degrades", 4, 2)
    assert r1["slope"] == pytest.approx(-0.05, abs=0.01)
    assert r1["ci_low"] < -0.05 < r1["ci_high"]
    assert [(gain["from"], gain["to"]) for gain in r1["gains"]] == [(1, 2), (2, 4), (4, 8)]
    assert (r2["factor"], r2["finding"]) == ("r2", "not resolved")


def test_a_slope_is_least_squares_with_an_intercept_per_series():
    source = FakeSource(grid(r1=(1, 2, 8), r2=(2, 4), seeds=2), falls_with_r1)
    comparison = compare(source)
    frame = source.frame()
    one = frame[frame["seed"] == 1]
    design = np.column_stack([np.log2(one["r1"].astype(float)), one["r2"] == 2, one["r2"] == 4]).astype(float)
    by_hand = [
        np.linalg.lstsq(design, frame[frame["seed"] == seed]["test/accuracy"], rcond=None)[0][0] for seed in (0, 1)
    ]
    assert comparison.trends.iloc[0]["slope"] == pytest.approx(np.mean(by_hand))


def test_trend_false_positives_stay_at_5_percent_under_the_null():
    """Three factors, three seeds, 12 arms, a shared effect of the seed: a family error of at most 5 %."""
    base = compare(FakeSource(grid(r1=(1, 2, 4), r2=(2, 4), r=(1, 2), seeds=3), lambda _: 0.8))
    rng = np.random.default_rng(3)
    false, trials = 0, 250
    for _ in range(trials):
        noise = rng.normal(0, 0.03, size=3) + rng.normal(0, 0.01, size=base.table.shape)
        table = pd.DataFrame(0.8 + noise, index=base.table.index, columns=base.table.columns)
        false += (trends(base.arms, table, base.settings)["finding"] != "not resolved").any()
    assert false / trials <= 0.05


def test_pareto_knows_on_off_and_ambiguous():
    """Cheap and good is on; dear and bad is off; dear and equally good cannot be told."""

    def effect(spec):
        return {(1, 2, 1): 0.8, (1, 4, 1): 0.6, (1, 8, 1): 0.8, (1, 16, 1): 0.95}[spec.components.as_tuple()]

    comparison = compare(FakeSource(grid(r1=(1,), r2=(2, 4, 8, 16), seeds=5), effect, noise=0.004))
    assert comparison.pareto().to_list() == ["on", "off", "ambiguous", "on"]
    single = compare(FakeSource(grid(r1=(1,), r2=(2, 4), seeds=1), lambda s: s.components.r2 / 10))
    assert single.pareto().to_list() == ["on", "ambiguous"]


def test_equal_budget_picks_on_validation_and_reports_how_many_were_tried():
    specs = [
        *grid(r1=(2,), r2=(2, 8), r=(1, 2)),
        *[RunSpec("digits-vit", "digits-flip", method="lora", rank=2, seed=s, steps=120) for s in range(3)],
        *[RunSpec("digits-vit", "digits-flip", method="full", seed=s, steps=120) for s in range(3)],
    ]
    comparison = compare(FakeSource(specs, lambda s: 0.7))
    lora = comparison.arms[comparison.arms["method"] == "lora"].iloc[0]
    assert comparison.references == (lora["arm"],)
    near = comparison.arms[(comparison.arms["num_params"] / lora["num_params"] - 1).abs() <= 0.1]
    validation = {arm: i for i, arm in enumerate(comparison.arms["arm"])}
    rows = equal_budget(comparison.arms, validation, int(lora["num_params"]))
    assert rows["family"].to_list() == ["lora", "cdka", "full"] or set(rows["family"]) == {"lora", "cdka", "full"}
    cdka = rows[rows["family"] == "cdka"].iloc[0]
    assert cdka["tried"] == (near["family"] == "cdka").sum() == 1
    assert int(lora["num_params"]) in budgets(comparison.arms)


def test_one_one_r_counts_as_lora():
    specs = [*grid(r1=(1,), r2=(1,), r=(2,)), *grid(r1=(2,))]
    comparison = compare(FakeSource(specs, lambda s: 0.7))
    assert comparison.arms["family"].to_list() == ["lora", "cdka"]
    assert comparison.labels[comparison.references[0]] == "cdka 1,1,2"


def test_mixed_tasks_are_compared_only_within_each():
    specs = [*grid(r1=(1, 2)), *grid(r1=(1, 2), task="digits")]
    comparison = compare(FakeSource(specs, falls_with_r1))
    assert len(comparison.groups) == 2
    task = dict(zip(comparison.arms["arm"], comparison.arms["task"], strict=True))
    assert len(comparison.verdicts) == 2
    assert all(task[a] == task[b] for a, b in zip(comparison.verdicts["a"], comparison.verdicts["b"], strict=True))
    assert set(comparison.trends["task"]) == {"digits", "digits-flip"}


def test_arms_are_found_by_label_and_misspelt_ones_refused():
    comparison = compare(FakeSource(grid(r1=(1, 2)), falls_with_r1), reference="2,4,1")
    assert comparison.labels[comparison.references[0]] == "cdka 2,4,1"
    assert comparison.verdicts["b"].unique().tolist() == list(comparison.references)
    assert find_arm(comparison.arms, "CDKA 1,4,1") == comparison.arms["arm"].iloc[0]
    with pytest.raises(CdkaError, match="unknown arm 'cdka 3,4,1'"):
        find_arm(comparison.arms, "cdka 3,4,1")


def test_diff_shows_only_what_differs():
    a, b = grid(r1=(2,), seeds=1)[0], grid(r1=(4,), seeds=1, lr=1e-2)[0]
    found = diff({"a": a.to_dict(), "b": b.to_dict()})
    assert found.index.to_list() == ["components", "lr"]
    assert found.loc["components"].to_list() == ["[2, 4, 1]", "[4, 4, 1]"]


def test_mcnemar_is_the_exact_binomial():
    label = [0] * 20
    a = pd.DataFrame({"example": range(20), "label": label, "predicted": [0] * 15 + [1] * 5})
    b = pd.DataFrame({"example": range(20), "label": label, "predicted": [0] * 5 + [1] * 10 + [0, 0] + [None] * 3})
    found = mcnemar(a, b)
    assert (found.both_right, found.only_a, found.only_b, found.both_wrong, found.unparsed_b) == (5, 10, 2, 3, 3)
    assert found.p == pytest.approx(2 * sum(math.comb(12, k) for k in range(3)) / 2**12)
    with pytest.raises(CdkaError, match="same examples"):
        mcnemar(a, b.assign(label=1))


def test_comparing_needs_neither_plotly_nor_torch_nor_streamlit():
    probe = "import sys, cdka.compare, cdka.compare.comparison; print([m for m in %r if m in sys.modules])"
    heavy = ["torch", "plotly", "streamlit", "transformers", "peft", "datasets"]
    out = subprocess.run([sys.executable, "-c", probe % heavy], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_errors_of_a_regression_are_better_when_lower_and_its_correlation_comes_first():
    names = ("test/mse", "test/mae", "test/spearman", "eval/loss", "test/mean_squared_error", "test/macro_f1")
    assert [Measure(name).higher_is_better for name in names] == [False, False, True, False, False, True]
    frame = pd.DataFrame({"eval/loss": [0.5], "test/mse": [0.3], "test/spearman": [0.8]})
    assert usual_metric(frame) == "test/spearman"
