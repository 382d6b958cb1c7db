"""What is loaded and what is not: safetensors alone, no code from a checkpoint, and every refusal in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny

from cdka.errors import CdkaError
from cdka.runs.events import Step
from cdka.runs.resolve import resolve_runs
from cdka.runs.spec import RunSpec
from cdka.train.device import resolve_dtype
from cdka.train.load_model import load_model
from cdka.train.loop import train

KINDS = {
    "llama": "causal-lm",
    "gpt2": "causal-lm",
    "t5": "seq2seq",
    "bert": "text-classification",
    "vit": "image-classification",
    "clip": "image-classification",
}


@pytest.fixture
def own(tmp_path):
    """A model of one's own to spoil."""
    return lambda family: save_tiny(family, tmp_path / family)


def refusal(folder, kind="causal-lm", **settings):
    with pytest.raises(CdkaError) as found:
        load_model(str(folder), kind, **settings)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("family", KINDS)
def test_attention_is_torchs_own(family, tiny):
    model = load_model(tiny(family), KINDS[family], num_labels=2 if "classification" in KINDS[family] else None).model
    assert model.config._attn_implementation == "sdpa"


def test_weights_that_can_run_code_are_not_loaded(own):
    folder = own("llama")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    said = refusal(folder)
    assert "no weights in safetensors" in said
    assert "Save it again with save_pretrained" in said


def test_code_beside_a_checkpoint_is_never_run(own):
    folder = own("llama")
    (folder / "configuration_evil.py").write_text("open('ran', 'w')")
    (folder / "modeling_evil.py").write_text("open('ran', 'w')")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "configuration_evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.EvilModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder)
    assert not Path("ran").exists()
    assert not list(folder.glob("ran"))


def test_damaged_and_half_weights_are_named(own):
    folder = own("llama")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refusal(folder)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "lacks weights for causal-lm: 1 tensors, the first is 'model.layers.1.mlp.up_proj.weight'" in refusal(folder)


@pytest.mark.parametrize(("family", "kind"), [("vit", "causal-lm"), ("gpt2", "image-classification")])
def test_another_kind_of_model_is_refused(family, kind, tiny):
    assert f"has no form for {kind}" in refusal(tiny(family), kind)


def test_a_folder_with_an_adapter_asks_for_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "It holds an adapter; give its base model" in refusal(tmp_path)


def test_a_tokenizer_is_needed_for_text(own, sums):
    folder = own("llama")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    spec = RunSpec(
        str(folder), "local-instruct", task_options={"data": sums}, steps=1, batch_size=2, components=(2, 4, 2)
    )
    with pytest.raises(CdkaError, match="has no tokenizer that can be loaded"):
        list(train(resolve_runs([spec]), [folder / "run"]))


def test_quantized_bases_say_what_they_need(tiny, monkeypatch):
    import cdka.train.load_model as loading

    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    said = refusal(tiny("llama"), quantization="nf4")
    assert "needs bitsandbytes, which is not installed. Run: pip install bitsandbytes" in said


def test_auto_is_bf16_where_the_device_computes_in_it(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert resolve_dtype("auto", cpu) == torch.float32
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert resolve_dtype("auto", gpu) == dtype
        assert resolve_dtype("nf4", gpu) == dtype
    assert resolve_dtype("float16", gpu) == torch.float16


def losses(spec, folder):
    shutil.rmtree(folder, ignore_errors=True)
    return [event.loss for _, event in train(resolve_runs([spec]), [folder]) if isinstance(event, Step)]


@pytest.mark.parametrize(
    ("family", "task", "data"),
    [
        ("llama", "local-instruct", "sums"),
        ("t5", "local-instruct", "sums"),
        ("bert", "local-classify", "moods"),
        ("vit", "local-images", "shades"),
        ("clip", "local-images", "shades"),
    ],
)
@pytest.mark.parametrize("method", ["cdka", "full"])
def test_checkpointed_and_split_batches_train_the_same(family, task, data, method, tiny, request, tmp_path):
    options = {"data": request.getfixturevalue(data)}
    components = (2, 4, 2) if method == "cdka" else None
    plain = RunSpec(
        tiny(family),
        task,
        method=method,
        components=components,
        task_options=options,
        steps=3,
        batch_size=8,
        eval_every=3,
        max_length=200,
        dtype="float64",
    )
    expected = losses(plain, tmp_path / "a")
    assert expected[0] != expected[-1]
    for change in ({"gradient_checkpointing": True}, {"gradient_accumulation": 3}):
        assert losses(plain.with_(**change), tmp_path / "b") == pytest.approx(expected, rel=1e-9), change
