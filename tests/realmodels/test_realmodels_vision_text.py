"""A tiny model that sees and writes learns captions and answers, with both towers adapted by role."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from tiny_models import _IDS, _VIT, tokenizer
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from cdka.adapter_files.exchange import export_lora
from cdka.cost.adapter import count_params
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.resolve import resolve_run, spec_for
from cdka.tasks.files.preview import preview, task_for
from cdka.train.data.load import load_task
from cdka.train.loop import train


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    words = tokenizer(True, False)
    words.add_tokens(["<image>"], special_tokens=True)
    words.image_token = "<image>"
    ids = {**_IDS, "vocab_size": len(words)}
    vision = CLIPVisionConfig(projection_dim=16, **_VIT)
    text = LlamaConfig(
        hidden_size=24,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        **ids,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=4,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    pictures = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    LlavaProcessor(
        image_processor=pictures,
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def asked(tmp_path):
    """Grey squares with the question whether they are dark."""
    folder = tmp_path / "asked"
    folder.mkdir()
    rows = []
    for i in range(40):
        level = 20 + i if i % 2 else 200 + i
        Image.new("RGB", (16, 16), (level,) * 3).save(folder / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "question": "dark?", "answer": "yes" if i % 2 else "no"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_both_towers_are_counted_by_role(model):
    shapes = find_model(model)
    assert shapes.kind == "image-text"
    for role in ("attention", "mlp", "all-linear"):
        paths = [linear.path for linear in select(shapes, role)]
        assert any("vision_tower" in path for path in paths), role
        assert any("language_model" in path for path in paths), role


def test_questions_about_pictures_are_learnt_saved_and_merged(model, asked, tmp_path):
    task, options = task_for(str(asked), {})
    assert task == "local-image-text"
    assert preview(task, options).first == {"prompt": "dark?", "answer": preview(task, options).first["answer"]}
    spec = spec_for(
        model,
        task,
        task_options=options,
        components=(2, 2, 2),
        steps=40,
        batch_size=8,
        eval_every=40,
        lr=5e-3,
        alpha=16.0,
    )
    events = [event for _, event in train([resolve_run(spec)], [tmp_path / "run"])]
    metrics = events[-1].metrics
    assert metrics["test/accuracy"] > 0.8
    base = AutoModelForImageTextToText.from_pretrained(model)
    adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "adapter")
    names = [name for name, _ in adapted.named_modules() if name.endswith("cdka_A")] or list(
        adapted.peft_config["default"].target_modules
    )
    assert names
    merged = adapted.merge_and_unload()
    assert isinstance(merged, LlavaForConditionalGeneration)


@pytest.fixture
def captioned(tmp_path):
    """Grey squares with a caption each, in the layout of the Hub's imagefolder."""
    folder = tmp_path / "captioned"
    folder.mkdir()
    lines = ["file_name,text"]
    for i in range(24):
        level = 20 + i if i % 2 else 200 + i
        Image.new("RGB", (16, 16), (level,) * 3).save(folder / f"{i}.png")
        lines.append(f"{i}.png,a {'dark' if i % 2 else 'light'} square")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_captions_are_trained_counted_loaded_merged_and_exported_by_role(model, captioned, tmp_path):
    task, options = task_for(str(captioned), {})
    assert preview(task, options).first["prompt"] == "Describe the picture."
    settings = {"components": (2, 2, 1), "steps": 2, "batch_size": 4, "eval_every": 2, "target_modules": "attention"}
    run = resolve_run(spec_for(model, task, task_options=options, **settings))
    events = [event for _, event in train([run], [tmp_path / "run"])]
    assert events[-1].kind == "final", events[-1]
    start = next(event for event in events if event.kind == "start")
    assert start.num_params == count_params(run)
    adapter = tmp_path / "run" / "adapter"
    trained = {name for name in load_file(adapter / "adapter_model.safetensors") if "cdka" in name}
    assert any("vision_tower" in name for name in trained)
    assert any("language_model" in name for name in trained)
    assert not any("mlp" in name or "fc1" in name for name in trained)
    batch = load_task(run.task, run.spec).test.take(torch.arange(2)).inputs

    def logits(made):
        with torch.no_grad():
            return made.eval()(**batch).logits

    base = AutoModelForImageTextToText.from_pretrained(model)
    plain = logits(base)
    adapted = PeftModel.from_pretrained(base, adapter)
    before = logits(adapted)
    assert not torch.allclose(plain, before, atol=1e-6), "the adapter does something"
    torch.testing.assert_close(logits(adapted.merge_and_unload()), before, atol=1e-4, rtol=1e-4)
    export_lora(adapter, tmp_path / "lora")
    exported = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(model), tmp_path / "lora")
    torch.testing.assert_close(logits(exported), before, atol=1e-4, rtol=1e-4)
