"""Studies: every one can be planned, and the verdict follows what the runs show, whichever way that is."""

from __future__ import annotations

import json

import pytest

from cdka.errors import CdkaError
from cdka.runs.store import Store
from cdka.studies import STUDIES, find_study, judge, plan_study
from cdka.studies.judge import CONTRADICTED, SUPPORTED, UNRESOLVED
from cdka.studies.report import report

ON_DIGITS = [name for name in STUDIES if name != "long-context"]


@pytest.mark.parametrize("name", ON_DIGITS)
def test_every_study_has_arms_in_each_regime_with_the_same_seeds(name):
    planned = plan_study(STUDIES[name], seeds=2)
    seeds = {spec.seed for spec in planned.specs}
    assert seeds == {0, 1}
    per_regime = len(planned.specs) / len(STUDIES[name].regimes)
    assert per_regime >= 2 * len(seeds)
    assert planned.document["study"] == name


def test_trend_studies_vary_one_factor_over_the_papers_range():
    for factor, axis in (("r1", 0), ("r2", 1)):
        planned = plan_study(STUDIES[factor])
        configurations = {spec.components.as_tuple() for spec in planned.specs}
        assert sorted(c[axis] for c in configurations) == [4, 8, 16, 32, 64]
        assert len({c[:axis] + c[axis + 1 :] for c in configurations}) == 1
    assert sorted({spec.components.r for spec in plan_study(STUDIES["r"]).specs}) == [1, 2, 4, 8]


def test_a_study_says_what_the_model_lacks():
    with pytest.raises(CdkaError, match="needs a model with more than 8,192 positions: digits-vit has"):
        plan_study(STUDIES["long-context"])
    with pytest.raises(CdkaError, match="needs an image model: llama-2-7b is causal-lm"):
        plan_study(STUDIES["vision"], "llama-2-7b", "digits-flip")
    with pytest.raises(CdkaError, match="unknown study 'r3'"):
        find_study("r3")


def finished(store, name, accuracy, *, seeds=3, failing=lambda spec: False):
    """A study in the store whose runs ended as ``accuracy(spec)`` says, without any training."""
    planned = plan_study(STUDIES[name], seeds=seeds)
    sweep_id = store.create_sweep(planned.name, planned.document, planned.specs)
    with store.database.write() as sql:
        for run in store.runs(sweep_id=sweep_id):
            if failing(run.spec):
                sql.execute("UPDATE runs SET status='failed', error='diverged' WHERE run_id=?", (run.run_id,))
                continue
            value = accuracy(run.spec)
            metrics = {"accuracy": value, "best_validation_accuracy": value, "validation_accuracy": value}
            sql.execute(
                "UPDATE runs SET status='done', metrics=?, started_at=0, finished_at=1, num_params=9 WHERE run_id=?",
                (json.dumps(metrics), run.run_id),
            )
    return store.sweep(sweep_id)


def wobble(spec):
    """A little noise that depends on the seed and the configuration, the same every time."""
    return 0.003 * ((spec.seed * 7 + sum(spec.components.as_tuple() if spec.components else (1,))) % 5 - 2)


@pytest.mark.parametrize(("slope", "verdict"), [(-0.02, SUPPORTED), (0.02, CONTRADICTED), (0.0, UNRESOLVED)])
def test_the_r1_verdict_follows_the_slope(slope, verdict, home):
    store = Store(home)
    sweep = finished(store, "r1", lambda s: 0.7 + slope * (s.components.r1.bit_length() - 3) + wobble(s))
    early, tuned = judge(store, sweep)
    assert (early.verdict, tuned.verdict) == (verdict, verdict)
    assert early.regime == "early"
    assert early.n == 3
    if slope:
        assert early.effect == pytest.approx(slope, abs=0.004)
        assert early.ci_low < early.effect < early.ci_high


def test_regimes_are_judged_apart(home):
    store = Store(home)

    def accuracy(spec):
        sign = 1 if spec.steps < 200 else -1
        return 0.7 + sign * 0.02 * spec.components.r2.bit_length() + wobble(spec)

    early, tuned = judge(store, finished(store, "r2", accuracy))
    assert (early.verdict, tuned.verdict) == (SUPPORTED, CONTRADICTED)


def test_returns_diminish_when_the_first_doubling_gains_more_than_the_last(home):
    store = Store(home)
    gain = {1: 0.60, 2: 0.75, 4: 0.80, 8: 0.81}
    early, _ = judge(
        store, finished(store, "r", lambda s: gain[s.components.r] + 0.001 * (s.seed * s.components.r % 3))
    )
    assert early.verdict == SUPPORTED
    assert early.effect == pytest.approx(0.14, abs=0.01)
    assert "Over all doublings together" in early.sentence


def test_a_diverged_run_is_counted_apart_and_never_as_zero(home):
    store = Store(home)
    sweep = finished(
        store, "stabilisation", lambda s: 0.9 + 0.001 * s.seed, failing=lambda s: s.scaling_rule == "none" and s.seed
    )
    (finding,) = judge(store, sweep)
    assert finding.verdict == UNRESOLVED
    assert "none 2 of 3" in finding.sentence
    assert "sqrt_r_r2 0 of 3" in finding.sentence


def test_lora_is_judged_at_the_rate_that_was_best_for_it(home):
    store = Store(home)

    def accuracy(spec):
        best = 9e-3 if spec.method == "lora" else 1e-3
        return (0.9 if spec.method == "lora" else 0.8) - 5 * abs(spec.lr - best) + 0.001 * ((spec.seed * 3) % 4)

    (finding,) = judge(store, finished(store, "equal-budget", accuracy))
    assert finding.verdict == CONTRADICTED
    assert finding.effect == pytest.approx(-0.1, abs=0.01)


def test_alignment_is_correlated_seed_by_seed(home):
    store = Store(home)
    sweep = finished(
        store, "alignment", lambda s: s.components.alignment(128) + 0.02 * ((s.seed + s.components.r1) % 3)
    )
    early, _ = judge(store, sweep)
    assert early.verdict == SUPPORTED
    assert 0.7 < early.effect <= 1


def test_an_unfinished_study_is_not_resolved_and_says_what_is_missing(home):
    store = Store(home)
    planned = plan_study(STUDIES["r1"], seeds=2)
    sweep = store.sweep(store.create_sweep(planned.name, planned.document, planned.specs))
    early, _ = judge(store, sweep)
    assert early.verdict == UNRESOLVED
    assert "10 runs are still to come" in early.sentence


def test_the_report_holds_every_arm_verdict_and_how_to_repeat_it(home):
    store = Store(home)
    sweep = finished(store, "r1", lambda s: 0.9 - 0.02 * s.components.r1.bit_length() + wobble(s))
    text = report(store, [sweep])
    assert "cdka study r1 --model digits-vit --task digits-flip --seeds 3" in text
    assert text.count("| cdka ") == 10
    assert text.count("*supported*") == 2
    assert "paper, key results" in text


def test_only_a_study_has_a_verdict(home):
    from cdka.sweep import plan

    store = Store(home)
    planned = plan("digits-vit", "digits-flip", grid="r=1", seeds=1)
    sweep = store.sweep(store.create_sweep(planned.name, planned.document, planned.specs))
    with pytest.raises(CdkaError, match="only a study's sweep has a verdict"):
        judge(store, sweep)
