"""Trained adapters of every kind answer one question side by side, each as it answers alone."""

from __future__ import annotations

import numpy as np
import pytest

import cdka
from cdka.engine.tryout import BASE, ask, finished
from tests.realmodels.tiny_models import save_tiny

METHODS = {
    "cdka": {"components": (2, 8, 1)},
    "lora": {"method": "lora", "rank": 2},
    "lokr": {"method": "lokr", "rank": 2},
    "full": {"method": "full"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    store = cdka.Store(tmp_path_factory.mktemp("home"))
    settings = {
        "steps": 6,
        "eval_every": 6,
        "eval_examples": 32,
        "test_examples": 32,
        "in_process": True,
        "home": store.home,
    }
    return store, {
        name: cdka.fine_tune("digits-vit", "digits-flip", **method, **settings).run_id
        for name, method in METHODS.items()
    }


def test_the_labels_that_a_run_was_trained_on_are_named_whatever_became_of_its_file(tmp_path):
    """Numbers were answered where the data say good and bad; the run knows its own, the file may be another by now."""
    file = tmp_path / "reviews.csv"
    rows = [f"{word} {i},{label}" for i in range(10) for word, label in (("lovely", "good"), ("broken", "bad"))]
    file.write_text("\n".join(["text,label", *rows]))
    encoder = save_tiny("bert", tmp_path / "encoder")
    run = cdka.fine_tune(
        str(encoder), str(file), components=(1, 1, 1), steps=1, eval_every=1, in_process=True, home=tmp_path / "home"
    )
    file.write_text("text,label\nfine,neither")
    store = cdka.Store(tmp_path / "home")
    for one in finished(ask(run.run_id, "lovely", store=store)):
        assert sorted(part.split()[0] for part in one["text"].split(", ")) == ["bad", "good"]


def texts(answers):
    return {one["who"].split()[0]: one["text"] for one in answers}


def test_adapters_of_different_kinds_answer_together_as_they_do_alone(trained):
    store, runs = trained
    pixels = np.random.default_rng(0).random((8, 8)).round(2).tolist()
    together = texts(
        finished(ask(runs["cdka"], "", against=(BASE, runs["lora"], runs["lokr"]), store=store, pixels=pixels))
    )
    assert list(together) == ["base", "lora", "lokr", "cdka"]
    assert len(set(together.values())) == 4
    alone = texts(finished(ask(runs["cdka"], "", against=(BASE,), store=store, pixels=pixels)))
    assert alone == {"base": together["base"], "cdka": together["cdka"]}


def test_a_fully_trained_model_answers_beside_an_adapter(trained):
    store, runs = trained
    pixels = np.random.default_rng(1).random((8, 8)).round(2).tolist()
    found = texts(finished(ask(runs["full"], "", against=(BASE, runs["cdka"]), store=store, pixels=pixels)))
    assert list(found) == ["base", "cdka", "full"]
