"""What people bring as models: heads, backbones, limits and damage are dealt with before the first step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.runs.resolve import resolve_run, spec_for
from cdka.tasks.files.preview import task_for
from cdka.train.data.pictures import SETTINGS, preprocess_for
from cdka.train.limits import positions_of, within_positions
from cdka.train.loop import train

sys.path.insert(0, str(Path(__file__).parents[1] / "realmodels"))
from tiny_models import _IDS, _VIT, _clip, tokenizer

BERT = {"hidden_size": 24, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def saved(folder, model, with_tokenizer=True):
    model.save_pretrained(folder)
    if with_tokenizer:
        tokenizer(True, True).save_pretrained(folder)
    return str(folder)


def bert(folder, **settings):
    torch.manual_seed(0)
    return saved(folder, BertModel(BertConfig(max_position_embeddings=64, **BERT, **_IDS, **settings)))


def classifier(folder, names, says):
    """A BERT classifier that always gives the label ``says``."""
    labels = dict(enumerate(names))
    config = BertConfig(max_position_embeddings=64, num_labels=len(names), id2label=labels, **BERT, **_IDS)
    config.label2id = {name: i for i, name in labels.items()}
    made = BertForSequenceClassification(config)
    with torch.no_grad():
        made.classifier.weight.zero_()
        made.classifier.bias.copy_(torch.tensor([3.0 if name == says else -3.0 for name in names]))
    return saved(folder, made)


def texts(path, labels):
    path.write_text("text,label\n" + "".join(f"note {i},{label}\n" for i, label in enumerate(labels)))
    return path


def run(model, data, out, given=None, **settings):
    task, options = task_for(str(data), given or {})
    settings = {"components": (2, 2, 1), "steps": 2, "batch_size": 8, "eval_every": 2, "max_length": 32} | settings
    resolved = resolve_run(spec_for(model, task, task_options=options, **settings))
    return [event for _, event in train([resolved], [out])]


def notes(events):
    return [event.text for event in events if event.kind == "note"]


def test_labels_are_numbered_as_a_checkpoints_head_numbers_them(tmp_path):
    model = classifier(tmp_path / "model", ["wet", "dry"], says="wet")
    data = texts(tmp_path / "d.csv", ["dry" if i % 5 == 0 else "wet" for i in range(60)])
    events = run(model, data, tmp_path / "run", steps=1, lr=1e-6)
    assert events[-1].metrics["test/accuracy"] == pytest.approx(0.8, abs=0.1)
    assert any("numbered as the checkpoint's head numbers them: wet, dry" in note for note in notes(events))
    kept = json.loads((tmp_path / "run" / "adapter" / "labels.json").read_text())
    assert kept == {"id2label": {"0": "wet", "1": "dry"}}


def test_a_head_of_other_labels_is_made_anew_and_trained(tmp_path):
    model = classifier(tmp_path / "model", ["wet", "dry"], says="wet")
    data = texts(tmp_path / "d.csv", ["ham" if i % 2 else "spam" for i in range(60)])
    events = run(model, data, tmp_path / "run")
    assert any("knows other labels (wet, dry): a new head is trained" in note for note in notes(events))
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["classifier"]
    start = next(event for event in events if event.kind == "start")
    assert list(start.label_names) == ["ham", "spam"]


def test_beside_accuracy_stands_what_shows_an_overlooked_label(tmp_path):
    data = texts(tmp_path / "d.csv", ["rare" if i % 10 == 0 else "common" for i in range(120)])
    metrics = run(bert(tmp_path / "model"), data, tmp_path / "run")[-1].metrics
    assert metrics["test/majority_accuracy"] > 0.8
    assert metrics["test/balanced_accuracy"] == pytest.approx(0.5)


def test_a_number_is_learnt_and_judged_in_its_own_unit(tmp_path):
    path = tmp_path / "d.csv"
    rows = (f"{'a' * (1 + i % 8)} {'b' * (1 + i // 8)},{1000.5 + 100 * (i % 8)}\n" for i in range(160))
    path.write_text("text,score\n" + "".join(rows))
    events = run(bert(tmp_path / "model"), path, tmp_path / "run", steps=60, batch_size=16, lr=1e-2, eval_every=60)
    metrics = events[-1].metrics
    assert metrics.get("test/accuracy") is None
    assert metrics["test/mse"] < 0.5 * metrics["test/mean_mse"]
    assert metrics["test/spearman"] > 0.7


@pytest.fixture
def shades(tmp_path):
    for label, grey in (("dark", 40), ("light", 200)):
        (tmp_path / "shades" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (16, 16), (grey, grey + i, grey)).save(tmp_path / "shades" / label / f"{i}.png")
    return tmp_path / "shades"


BACKBONES = {
    "vit": lambda: ViTModel(ViTConfig(**_VIT)),
    "clip": _clip,
    "dinov2": lambda: Dinov2Model(
        Dinov2Config(
            image_size=16, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2
        )
    ),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_without_a_head_takes_pictures(name, shades, tmp_path):
    torch.manual_seed(0)
    made = BACKBONES[name]()
    assert isinstance(made, ViTModel | CLIPModel | Dinov2Model)
    model = saved(tmp_path / "model", made, with_tokenizer=False)
    assert find_model(model).kind == "image-classification"
    assert run(model, shades, tmp_path / "run")[-1].kind == "final"


def test_a_model_of_four_channels_takes_transparent_pictures(tmp_path):
    for label, grey in (("dark", 40), ("light", 200)):
        (tmp_path / "p" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGBA", (16, 16), (grey, grey, grey, 100 + i)).save(tmp_path / "p" / label / f"{i}.png")
    model = saved(tmp_path / "m", ViTForImageClassification(ViTConfig(num_channels=4, num_labels=2, **_VIT)), False)
    assert run(model, tmp_path / "p", tmp_path / "run")[-1].kind == "final"


POSITIONS = {
    "bert": (lambda: BertModel(BertConfig(max_position_embeddings=64, **BERT, **_IDS)), 64),
    "roberta": (
        lambda: RobertaForSequenceClassification(RobertaConfig(max_position_embeddings=66, **BERT, **_IDS)),
        65,
    ),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=1, n_head=2, n_positions=64, **_IDS)), 64),
}


@pytest.mark.parametrize("family", POSITIONS)
def test_sequences_are_cut_to_the_positions_that_a_model_has_learned(family, tmp_path):
    make, limit = POSITIONS[family]
    model = saved(tmp_path / "model", make())
    found = positions_of(model)
    assert (found.limit, found.learned) == (limit, True)
    data = texts(tmp_path / "d.csv", ["a", "b"] * 20)
    data.write_text(data.read_text().replace("note", "dry day " * 25))
    events = run(model, data, tmp_path / "run", max_length=128)
    assert events[-1].kind == "final"
    assert any(f"is more than the {limit} positions" in note for note in notes(events))
    assert within_positions(model, limit) == (limit, ())


def test_tokens_without_an_embedding_are_refused(tmp_path):
    small = {**_IDS, "vocab_size": 20}
    model = saved(tmp_path / "model", BertModel(BertConfig(max_position_embeddings=64, **BERT, **small)))
    with pytest.raises(CdkaError, match=r"makes token \d+, but the model's vocabulary has 20 entries"):
        run(model, texts(tmp_path / "d.csv", ["a", "b"] * 20), tmp_path / "run")


def test_a_damaged_checkpoint_is_told_and_training_starts_anew(tmp_path):
    spec = spec_for("digits-vit", "digits-flip", components=(2, 2, 1), steps=4, batch_size=8, checkpoint_every=2)
    resolved = resolve_run(spec)
    first = [event for _, event in train([resolved], [tmp_path])]
    state = tmp_path / "checkpoint" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    again = [event for _, event in train([resolved], [tmp_path])]
    assert any("the checkpoint cannot be read" in note and "starts anew" in note for note in notes(again))
    assert again[-1].metrics["test/accuracy"] == first[-1].metrics["test/accuracy"]


PROCESSORS = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}},
    "vit of 2021": {"feature_extractor_type": "ViTFeatureExtractor", "size": 16, "image_mean": [0.5] * 3},
    "convnext with crop_pct": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_pct": 0.875,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 28, "width": 28},
        "resample": 3,
    },
    "clip": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 24}, "crop_size": 24},
    "siglip, size as a list": {"image_processor_type": "SiglipImageProcessor", "size": [16, 16]},
    "deit": {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": 20, "width": 20},
        "crop_size": {"height": 16, "width": 16},
    },
    "beit": {"image_processor_type": "BeitImageProcessor", "size": {"height": 16, "width": 16}},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_are_prepared_as_transformers_prepares_them(name, tmp_path):
    given = PROCESSORS[name]
    ViTConfig(**_VIT).save_pretrained(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps(given))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype("uint8"))
    renamed = dict(given)
    if "feature_extractor_type" in renamed:
        renamed["image_processor_type"] = renamed.pop("feature_extractor_type").replace(
            "FeatureExtractor", "ImageProcessor"
        )
    oracle_folder = tmp_path / "oracle"
    ViTConfig(**_VIT).save_pretrained(oracle_folder)
    (oracle_folder / SETTINGS).write_text(json.dumps(renamed))
    oracle = AutoImageProcessor.from_pretrained(oracle_folder, backend="pil")(picture, return_tensors="np")
    assert np.array_equal(preprocess_for(str(tmp_path))([picture]), oracle["pixel_values"])


def test_an_unknown_setting_of_the_preprocessing_is_refused_by_name(tmp_path):
    ViTConfig(**_VIT).save_pretrained(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps({**PROCESSORS["vit"], "crop_percentage": 0.9}))
    with pytest.raises(CdkaError, match="does not know: crop_percentage"):
        preprocess_for(str(tmp_path))


def test_pictures_are_seen_upright_and_in_their_whole_range(tmp_path):
    ViTConfig(**_VIT).save_pretrained(tmp_path)
    preprocess = preprocess_for(str(tmp_path))
    means = {}
    for name, level in (("dark", 2000), ("light", 50_000)):
        Image.fromarray(np.full((16, 16), level, "uint16")).save(tmp_path / f"{name}.png")
        means[name] = preprocess([Image.open(tmp_path / f"{name}.png")]).mean()
    assert means["dark"] == pytest.approx(2 * 2000 / 65535 - 1, abs=0.01)
    assert means["light"] == pytest.approx(2 * 50_000 / 65535 - 1, abs=0.01)
    half = np.zeros((16, 16, 3), "uint8")
    half[:8] = 255
    turned = Image.fromarray(half)
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was turned: shown, the bright half is on the right
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = preprocess([Image.open(tmp_path / "turned.jpg")])[0, 0]
    assert shown[:, 8:].mean() > 0.9
    assert shown[:, :8].mean() < -0.9
