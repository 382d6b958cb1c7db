"""A fair search from the plan to the comparison: rates chosen on validation alone, arms without a search marked."""

from __future__ import annotations

import json

import pytest

from cdka.compare import StoreSource, compare
from cdka.runs.store import Store
from cdka.sweep.plan import plan

VALIDATION = {1e-3: 0.6, 3e-3: 0.8, 5e-4: 0.7}
TEST = {1e-3: 0.95, 3e-3: 0.75, 5e-4: 0.7}


@pytest.fixture
def searched(home):
    """A finished sweep whose validation and test accuracies disagree about the learning rate."""
    store = Store(home)
    made = plan(
        "digits-vit",
        "digits-flip",
        arms=[{"r": 1}, {"r": 2, "lr": 5e-4}],
        baselines=["lora"],
        tune_lr=[1e-3, 3e-3],
        seeds=2,
    )
    sweep_id = store.create_sweep(made.name, made.document, made.specs)
    with store.database.write() as sql:
        for run in store.runs(sweep_id=sweep_id):
            own = VALIDATION[run.spec.lr]
            metrics = {
                "test/accuracy": TEST[run.spec.lr] + 0.01 * run.spec.seed,
                "eval/best_accuracy": own,
                "eval/accuracy": own,
            }
            sql.execute(
                "UPDATE runs SET status='done', metrics=?, num_params=9 WHERE run_id=?",
                (json.dumps(metrics), run.run_id),
            )
    return StoreSource(store, [sweep_id])


def test_the_rate_is_chosen_on_validation_even_where_test_says_otherwise(searched):
    found = compare(searched, choose_lr=True)
    rates = {found.labels[arm]: row["lr"] for arm, row in found.settings.items()}
    assert {rate for label, rate in rates.items() if "not tuned" not in label} == {3e-3}


def test_arms_without_a_search_are_marked_as_not_tuned(searched):
    found = compare(searched, choose_lr=True)
    marked = [label for label in found.arms["arm_label"] if label.endswith(" · not tuned")]
    assert marked == ["cdka 2,8,2 · not tuned"]
    assert "1 arm at a single rate, beside others that had a search: not tuned." in found.missing()
    assert not any("not tuned" in label for label in compare(searched).arms["arm_label"]), "no search, no mark"
