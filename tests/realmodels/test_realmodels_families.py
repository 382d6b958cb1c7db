"""Every family of models, every method, from a local folder: trains, learns, saves what PEFT can load."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from cdka.errors import CdkaError
from cdka.runs.resolve import resolve_runs
from cdka.runs.spec import RunSpec
from cdka.train.loop import train


def spec_for(tiny, family, task, data, **changes):
    settings = {"steps": 3, "batch_size": 8, "eval_every": 3, "components": (2, 4, 2), "max_length": 200, **changes}
    if settings.get("method", "cdka") != "cdka":
        settings.pop("components")
    return RunSpec(model=tiny(family), task=task, task_options={"data": data}, **settings)


def run(spec, folder):
    return [event.to_dict() for _, event in train(resolve_runs([spec]), [folder])]


CASES = [
    ("llama", "local-instruct", "sums"),
    ("gpt2", "local-instruct", "sums"),
    ("t5", "local-instruct", "sums"),
    ("bert", "local-classify", "moods"),
    ("t5", "local-classify", "moods"),
    ("llama", "local-classify", "moods"),
    ("vit", "local-images", "shades"),
    ("clip", "local-images", "shades"),
]


@pytest.mark.parametrize(("family", "task", "data"), CASES)
@pytest.mark.parametrize("method", ["cdka", "lora", "full"])
def test_a_run_trains_and_saves(family, task, data, method, tiny, request, tmp_path):
    spec = spec_for(tiny, family, task, request.getfixturevalue(data), method=method)
    events = run(spec, tmp_path)
    final = events[-1]
    assert final["kind"] == "final", final
    json.dumps(events)
    steps = [event for event in events if event["kind"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3]
    assert all(torch.isfinite(torch.tensor(event["train/loss"])) for event in steps)
    assert 0.0 <= final["metrics"]["test/accuracy"] <= 1.0
    assert len(final["predictions"]["predicted"]) == final["metrics"]["test/examples"]
    saved = load_file(tmp_path / "adapter" / ("model.safetensors" if method == "full" else "adapter_model.safetensors"))
    assert saved


def test_a_new_head_is_saved_with_the_adapter_and_trains(tiny, moods, tmp_path):
    spec = spec_for(tiny, "bert", "local-classify", moods)
    events = run(spec, tmp_path)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert "classifier" in config["modules_to_save"]
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (weight,) = [tensor for name, tensor in saved.items() if name.endswith("classifier.weight")]
    assert weight.shape == (3, 24)
    assert events[-1]["metrics"]["test/unparsed"] == 0


def test_a_head_of_another_size_becomes_a_new_head(tiny, shades, tmp_path):
    """The tiny ViT has five labels, the folder two."""
    run(spec_for(tiny, "vit", "local-images", shades), tmp_path)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert [tuple(t.shape) for name, t in saved.items() if name.endswith("classifier.weight")] == [(2, 24)]


def test_images_are_learnt(tiny, shades, tmp_path):
    spec = spec_for(tiny, "vit", "local-images", shades, steps=30, lr=1e-2, alpha=16.0, eval_every=30)
    assert run(spec, tmp_path)[-1]["metrics"]["test/accuracy"] == 1.0


@pytest.mark.parametrize(
    ("family", "task", "data", "said"),
    [
        ("bert", "local-instruct", "sums", "the model must suit the task"),
        ("vit", "local-classify", "moods", "the model must suit the task"),
        ("bert", "local-images", "shades", "the model must suit the task"),
    ],
)
def test_a_model_that_does_not_suit_the_data_is_refused_in_words(family, task, data, said, tiny, request, tmp_path):
    with pytest.raises(CdkaError, match=said):
        run(spec_for(tiny, family, task, request.getfixturevalue(data)), tmp_path)
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(("family", "task", "data"), [c for c in CASES if c[0] in ("llama", "t5", "bert", "vit")])
def test_a_pack_equals_separate_runs(family, task, data, tiny, request, tmp_path):
    data = request.getfixturevalue(data)
    specs = [
        spec_for(tiny, family, task, data, steps=4, seed=1),
        spec_for(tiny, family, task, data, steps=4, components=(4, 2, 3), seed=2, lr=2e-3),
    ]
    for i in range(3):
        (tmp_path / str(i)).mkdir()
    packed = [(i, event.to_dict()) for i, event in train(resolve_runs(specs), [tmp_path / "0", tmp_path / "1"])]
    for index, spec in enumerate(specs):
        alone = run(spec, tmp_path / "2")
        for kind, key in (("step", "train/loss"), ("eval", "eval/loss"), ("eval", "eval/accuracy")):
            together = [event[key] for i, event in packed if i == index and event["kind"] == kind]
            apart = [event[key] for event in alone if event["kind"] == kind]
            assert together == pytest.approx(apart, abs=1e-5), (kind, key)
