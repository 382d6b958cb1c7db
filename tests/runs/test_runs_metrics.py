"""A metric has one name: its split, a slash, its measure. In 0.1.0 ``accuracy`` was validation in one event and test in
another."""

from __future__ import annotations

import re

import pytest

from cdka.runs import events
from cdka.runs.job_queue import Batch, claim, record_events, reserve
from cdka.runs.metrics import OLD_NAMES, from_old_names, full_name, measure_of, with_old_names, words_of
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.runs.store import Store

BARE = re.compile(r"(best_|validation_|test_|train_)?(accuracy|loss)")


def names_in(value) -> set[str]:
    """Every key of a JSON document, at any depth."""
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in names_in(item)}
    return {name for item in value for name in names_in(item)} if isinstance(value, list) else set()


def test_no_event_frame_or_curve_of_a_run_has_a_metric_without_its_split(tmp_path):
    from cdka.train.loop import train

    spec = spec_for("digits-vit", "digits-flip", components="2,4,1", steps=2, batch_size=8, eval_every=1)
    store = Store(tmp_path / "home")
    (run_id,) = store.submit([spec])
    reserve(store.database, lambda spec: "cpu:0")
    assert claim(store.database, run_id, 1, (1, "start", "boot"))
    sent = [event for _, event in train(resolve_runs([spec]), [tmp_path / "run"])]
    record_events(store.database, [Batch(run_id, 1, 0, sent)])
    stored = store.events(run_id)
    names = names_in(stored) | set(store.frame().columns) | set(store.curves([run_id]).columns)
    names |= set(store.run(run_id).metrics) | set(store.run(run_id).last_eval)
    assert {"train/loss", "eval/accuracy", "eval/loss", "test/accuracy", "test/loss"} <= names
    assert not {name for name in names if BARE.fullmatch(name)}
    final, last = stored[-1]["metrics"], [event for event in stored if event["kind"] == events.Evaluated.kind][-1]
    assert (final["eval/accuracy"], final["eval/loss"]) == (last["eval/accuracy"], last["eval/loss"])
    told = store.run(run_id).to_dict()["metrics"]
    assert told["accuracy"] == told["test/accuracy"] == final["test/accuracy"], "the short name of cdka run --json"
    assert {name: told[name] for name in final} == final


@pytest.mark.parametrize(
    ("name", "at_the_end", "along_the_way"),
    [
        ("accuracy", "test/accuracy", "eval/accuracy"),
        ("loss", "eval/loss", "eval/loss"),
        ("validation_accuracy", "eval/accuracy", "eval/accuracy"),
        ("f1", "test/f1", "test/f1"),
        ("eval/f1", "eval/f1", "eval/f1"),
        ("seconds", "seconds", "seconds"),
    ],
)
def test_a_short_name_means_what_it_meant_in_0_1_0(name, at_the_end, along_the_way):
    assert full_name(name) == at_the_end
    assert full_name(name, along_the_way=True) == along_the_way


def test_old_metrics_are_renamed_once_and_written_back_beside_the_new():
    old = {name: i for i, name in enumerate(OLD_NAMES)} | {"steps_done": 7}
    new = from_old_names(old)
    assert len(new) == len(old)
    assert from_old_names(new) == new
    assert not {name for name in new if BARE.fullmatch(name)}
    assert with_old_names(new) == {**old, **new}


def test_metrics_have_words():
    assert words_of("test/accuracy") == "test accuracy"
    assert words_of("eval/best_accuracy") == "best validation accuracy"
    assert words_of("train/loss") == "training loss"
    assert words_of("num_params") == "num params"
    assert measure_of("eval/f1") == "f1"
