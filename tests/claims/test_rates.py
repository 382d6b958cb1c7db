"""The study of learning rates finds the best rate and the rates that work, and counts bases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from finished_study import finished

from cdka.claims import STUDIES, judge, plan_study
from cdka.claims.bases import FAMILIES
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED
from cdka.claims.rates import LIKE_LORA_2, LORA_2, RULES_TRIED, SIZES, best_rate, kept_at, working_width
from cdka.claims.report import report
from cdka.cost.adapter import num_params
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.store import Store

FAMILY = FAMILIES["digits-vit"]
RATES = 0.003 * 2.0 ** np.arange(-3, 5)


def hill(centre, width=1.0, top=0.95):
    """Accuracy over log2 of the rate: a parabola."""
    return pd.Series(top - 0.02 * ((np.log2(RATES) - centre) / width) ** 2, index=RATES)


def test_the_best_rate_lies_between_those_tried_or_at_the_end():
    centre = np.log2(0.003) + 0.3
    assert best_rate(hill(centre)) == pytest.approx(centre)
    assert best_rate(hill(np.log2(RATES[-1]) + 3)) == pytest.approx(np.log2(RATES[-1]))
    assert best_rate(pd.Series(1.0, index=RATES)) == pytest.approx(np.log2(RATES[0])), "nothing tells them apart"


def test_the_rates_that_work_are_counted():
    assert working_width(hill(np.log2(0.003))) == 3
    assert working_width(hill(np.log2(0.003), width=2.0)) == 7
    assert working_width(pd.Series(0.5, index=RATES)) == len(RATES)


def shifted(doublings, rule):
    """Accuracies whose best rate falls by ``doublings`` per doubling of r r2 under ``rule``, by base a little more."""

    def accuracy(spec):
        size = np.log2(spec.components.r * spec.components.r2)
        more = doublings * (1 + 0.1 * FAMILY.index(spec.model)) if spec.scaling_rule == rule else 0.0
        away = np.log2(spec.lr / 0.012) + more * size
        return 0.95 - 0.02 * away**2

    return accuracy


@pytest.mark.parametrize(("rule", "verdict"), [("none", SUPPORTED), ("sqrt_r_r2", CONTRADICTED)])
def test_best_rates_that_move_with_the_size_are_found(home, rule, verdict):
    store = Store(home)
    transfers, wider = judge(store, finished(store, "rates", shifted(0.5, rule), seeds=1))
    assert (transfers.verdict, transfers.n, transfers.counted) == (verdict, len(FAMILY), "base model")
    spread = 0.5 * 1.2 * (np.log2(128) - np.log2(2))  # the mean base
    assert abs(transfers.effect) == pytest.approx(spread, rel=0.05)
    assert "Best rate (median over bases)" in transfers.sentence
    assert wider.verdict == UNRESOLVED or rule == "sqrt_r_r2"


def test_the_report_recommends_a_rate_per_method_with_its_interval(home):
    store = Store(home)

    def accuracy(spec):
        best = 0.003 if spec.components in SIZES[:2] else 0.012
        return 0.95 - 0.02 * (np.log2(spec.lr / best) - 0.05 * FAMILY.index(spec.model)) ** 2

    found = report(store, [finished(store, "rates", accuracy, seeds=1)], name="rates")
    cdka, lora = found.document["studies"][0]["recommended"]
    assert (cdka["method"], lora["method"]) == ("cdka", "lora")
    assert cdka["lr"] == pytest.approx(0.012 * 2**0.1, rel=0.02)
    assert lora["lr"] == pytest.approx(0.003 * 2**0.1, rel=0.02)
    assert cdka["low"] < cdka["lr"] < cdka["high"] < 1.2 * cdka["lr"]
    assert (cdka["apart"], cdka["alpha"], cdka["steps"]) == (0.0, 16.0, 120)
    assert cdka["models"] == sorted(FAMILY)
    assert lora["sizes"] == ["1,1,2", "1,1,8"]


def test_a_diverged_run_is_a_rate_that_does_not_work(home):
    store = Store(home)

    def accuracy(spec):
        limit = 0.004 if spec.components == LORA_2 else 0.02 + 0.03 * (FAMILY.index(spec.model) > 1)
        return None if spec.lr > limit else 0.95

    _, wider = judge(store, finished(store, "rates", accuracy, seeds=1))
    assert (wider.verdict, wider.n) == (SUPPORTED, len(FAMILY))
    assert wider.effect == pytest.approx((2 * 2 + 3 * 4) / 5)


def test_the_two_that_are_compared_cost_the_same():
    layers = select(find_model("digits-vit"))
    assert num_params(layers, LORA_2) == num_params(layers, LIKE_LORA_2)
    planned = plan_study(STUDIES["rates"])
    assert len(planned.runs) == len(FAMILY) * len(SIZES) * len(RULES_TRIED) * len(RATES)
    assert sorted({run.spec.lr for run in planned.runs}) == pytest.approx(RATES)


def test_what_is_kept_is_read_where_the_new_task_first_reaches_the_goal():
    new, kept = np.array([0.2, 0.6, 0.8, 0.9, 0.7]), np.array([0.95, 0.9, 0.7, 0.5, 0.1])
    assert kept_at(new, kept, 0.8) == pytest.approx(0.7)
    assert kept_at(new, kept, 0.7) == pytest.approx(0.8)
    assert np.isnan(kept_at(new, kept, 0.95)), "never reached"
    assert np.isnan(kept_at(new, kept, 0.1)), "exceeded from the start: at no rate tried was it equal"


def test_forgetting_is_compared_at_equal_accuracy_not_at_equal_rate(home):
    """Both methods lie on one curve of new against kept, LoRA a rate behind: at each rate they differ, at equal
    accuracy they do not; full fine-tuning keeps 0.1 less."""
    store = Store(home)

    def doublings(spec):
        lora = spec.components is not None and spec.components.r1 == spec.components.r2 == 1
        return np.log2(spec.lr / 0.000375) - lora + 0.1 * FAMILY.index(spec.model)

    def new(spec):
        return 0.3 + 0.1 * doublings(spec)

    def further(spec):
        less = 0.1 * (1 + 0.1 * FAMILY.index(spec.model)) if spec.method == "full" else 0.0
        wobble = 0.001 * (-1) ** (FAMILY.index(spec.model) + (spec.components is not None and spec.components.r == 8))
        return {"retained/after_accuracy": 0.9 - 0.08 * doublings(spec) - less + wobble}

    sweep = finished(store, "forgetting", new, seeds=1, further=further)
    assert {run.spec.retain for run in store.runs(sweep_id=sweep.sweep_id)} == {"digits"}
    lora_8, lora_1, full = judge(store, sweep)
    assert (lora_8.verdict, lora_8.n) == (UNRESOLVED, len(FAMILY))
    assert lora_8.effect == pytest.approx(0.0, abs=1e-3)
    assert (full.verdict, full.counted) == (SUPPORTED, "base model")
    assert full.effect == pytest.approx(0.12, abs=3e-3)
    assert "Compared at 0." in full.sentence
    assert lora_1.n == len(FAMILY)
