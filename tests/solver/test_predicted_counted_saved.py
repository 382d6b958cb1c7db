"""Predicted = counted = saved: the solver's numbers against PEFT's trainable count and the file on disk."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from safetensors import safe_open
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from cdka.adapter import CdkaConfig
from cdka.models.targets import peft_targets
from cdka.solver import evaluate, explore, pattern
from cdka.train.read_shapes import shapes_of

TINY = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**TINY, num_key_value_heads=2, vocab_size=50)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=50, n_positions=16)),
    "pythia": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**TINY, vocab_size=50)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(d_model=48, d_ff=96, d_kv=12, num_layers=2, num_heads=4, vocab_size=50)
    ),
    "bert": lambda: BertForSequenceClassification(BertConfig(**TINY, vocab_size=50)),
    "vit": lambda: ViTForImageClassification(
        ViTConfig(**TINY, image_size=8, patch_size=4, num_channels=1, num_labels=5)
    ),
}


def saved_numbers(folder):
    """(elements of all tensors, bytes of the file) of the adapter in ``folder``."""
    file = folder / "adapter_model.safetensors"
    with safe_open(file, "pt") as tensors:
        elements = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118 (not a mapping)
    return elements, file.stat().st_size


@pytest.mark.parametrize("components", [(2, 4, 3), (1, 1, 5)], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_predicted_equals_counted_equals_saved(name, components, tmp_path):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]()
    shapes = shapes_of(model, name)
    option = evaluate(shapes, components)
    r1, r2, r = components
    adapted = get_peft_model(model, CdkaConfig(r1=r1, r2=r2, r=r, target_modules=peft_targets(shapes)))
    counted = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert option.num_params == counted
    adapted.save_pretrained(tmp_path)
    elements, size = saved_numbers(tmp_path)
    assert elements == option.num_params
    assert 4 * option.num_params < size <= option.adapter_bytes


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("targets", ["attention", "mlp"])
def test_roles_adapt_exactly_the_modules_that_were_counted(name, targets):
    model = ARCHITECTURES[name]()
    shapes = shapes_of(model, name)
    option = evaluate(shapes, (2, 4, 3), target_modules=targets)
    config = CdkaConfig(r1=2, r2=4, r=3, target_modules=peft_targets(shapes, targets))
    adapted = get_peft_model(model, config)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == option.num_params


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_pattern_is_adapted_as_it_was_counted(name, tmp_path):
    model = ARCHITECTURES[name]()
    shapes = shapes_of(model, name)
    got = pattern(explore(shapes, "lora:4"))
    r1, r2, r = got.default.as_tuple()
    config = CdkaConfig(
        r1=r1,
        r2=r2,
        r=r,
        target_modules=peft_targets(shapes),
        component_pattern={key: c.as_tuple() for key, c in got.component_pattern().items()},
    )
    adapted = get_peft_model(model, config)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == got.num_params
    adapted.save_pretrained(tmp_path)
    assert saved_numbers(tmp_path)[0] == got.num_params
