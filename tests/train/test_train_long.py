"""More than 8K tokens in one example: checkpointed layers and a chunked loss, the same numbers in far less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cdka.bench.tracing import peak_bytes
from cdka.runs.spec import RunSpec
from cdka.train import forward as forwarding
from cdka.train.data.objectives import NextToken
from cdka.train.data.splits import Ragged, TextSplit
from cdka.train.load_model import Loaded
from cdka.train.member import Member
from cdka.train.methods import attach, trainable

LENGTH, VOCABULARY = 8704, 4096


def step(tmp_path, frugal, monkeypatch):
    """(loss, gradients, peak bytes) of one step on one long example."""
    monkeypatch.setattr(forwarding, "LOGITS_LIMIT_BYTES", {"cpu": 8 * 2**20 if frugal else 2**40})
    monkeypatch.setattr(forwarding, "WHOLE_LOGITS", 0 if frugal else 2**40)
    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            intermediate_size=96,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=VOCABULARY,
            max_position_embeddings=LENGTH,
        )
    )
    spec = RunSpec("random", "math", components=(2, 4, 2), batch_size=1, max_length=LENGTH)
    model = attach(Loaded(base, ()), [spec])
    if frugal:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    tokens = torch.randint(4, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(1)).tolist()
    data = TextSplit(
        kind="causal-lm", source=Ragged.of([tokens[:1]]), target=Ragged.of([tokens[1:]]), ids=np.arange(1), pad_id=0
    )
    member = Member.start(0, spec, tmp_path, "default", trainable(model, spec, "default"), data)
    told = {}

    def run() -> None:
        (output,) = forwarding.forward(model, [member], [data], torch.device("cpu"), NextToken(1, None))
        output.loss.backward()
        told["loss"] = output.loss.item()

    peak = peak_bytes(run)
    return told["loss"], [p.grad.clone() for p in member.parameters.values()], peak


@pytest.mark.slow
def test_a_long_example_trains_the_same_in_a_fraction_of_the_memory(tmp_path, monkeypatch):
    loss, gradients, peak = step(tmp_path, False, monkeypatch)
    frugal_loss, frugal_gradients, frugal_peak = step(tmp_path, True, monkeypatch)
    assert frugal_loss == pytest.approx(loss, rel=1e-5)
    for frugal, plain in zip(frugal_gradients, gradients, strict=True):
        torch.testing.assert_close(frugal, plain, rtol=1e-3, atol=1e-5 * float(plain.abs().max()) + 1e-6)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    assert frugal_peak < peak / 4
