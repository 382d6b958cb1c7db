"""What the adapter costs in kernels and copies, counted in a trace of every dispatched operation."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import get_peft_model
from torch import nn

from cdka.adapter import CdkaConfig, Linear, cached_factors, packed
from cdka.bench.tracing import Trace, peak_bytes
from cdka.components import Components

OUT, IN, TOKENS = 768, 512, 200  # an output has fewer elements than the weight, more than expanded factors
CONFIGURATIONS = [(2, 8, 4), (1, 8, 2), (2, 2, 8), (4, 16, 2)]


def adapted(components=(2, 8, 4), dtype=torch.float32, master=None) -> Linear:
    config = CdkaConfig(init_weights="random")
    layer = Linear(nn.Linear(IN, OUT, dtype=dtype), "default", Components(*components), 64.0, config)
    layer.base_layer.requires_grad_(False)
    if master is not None:
        layer.cdka_A.to(master)
        layer.cdka_B.to(master)
    return layer


def step(layer: nn.Module, tokens: int = TOKENS, dtype=torch.float32) -> Trace:
    x = torch.randn(tokens, IN, dtype=dtype, requires_grad=True)
    grad = torch.randn(tokens, OUT, dtype=dtype)
    layer(x).backward(grad)  # the first gradient of a parameter is stored, later ones are added: one kernel more
    for p in layer.parameters():
        p.grad = None
    x.grad = None
    with Trace() as trace:
        layer(x).backward(grad)
    return trace


def frozen(dtype=torch.float32) -> nn.Module:
    return nn.Linear(IN, OUT, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("components", CONFIGURATIONS)
def test_an_adapted_linear_launches_at_most_eight_kernels_more_than_a_frozen_one(components):
    ours, base = step(adapted(components)), step(frozen())
    assert base.names() == ["addmm", "mm"]
    assert len(ours.kernels) - len(base.kernels) <= 8, ours.names()


def test_master_weights_in_fp32_over_a_bf16_base_cost_two_casts_of_the_small_factors_and_none_of_activations():
    ours = step(adapted(dtype=torch.bfloat16, master=torch.float32), dtype=torch.bfloat16)
    casts = [size for name, size in ours.kernels if name == "_to_copy"]
    assert len(ours.kernels) - 2 <= 10, ours.names()
    assert len(casts) == 2
    assert max(casts) < TOKENS * IN


def test_micro_batches_of_one_optimiser_step_may_share_the_casts_and_notice_the_step():
    layer = adapted(dtype=torch.bfloat16, master=torch.float32)
    with cached_factors(layer):
        again = step(layer, dtype=torch.bfloat16)  # its warm-up has filled the cache
        assert len(again.kernels) - 2 == 8, again.names()
        x = torch.randn(TOKENS, IN, dtype=torch.bfloat16)
        for name in ("cdka_A", "cdka_B"):
            before = layer(x)
            with torch.no_grad():
                getattr(layer, name)["default"].mul_(3.0)
            assert not torch.allclose(layer(x), before)
        with torch.inference_mode():
            inferred = layer(x)
        trained = layer(x)
        trained.float().sum().backward()
        torch.testing.assert_close(inferred, trained.detach())
    torch.testing.assert_close(layer(x), trained)
    assert layer.cache is None


def copies(trace: Trace) -> list[tuple[str, int]]:
    return trace.copies(TOKENS * IN)


def weight_sized(trace: Trace) -> list[tuple[str, int]]:
    return [(name, size) for name, size in trace.kernels if size >= OUT * IN]


@pytest.mark.parametrize("components", CONFIGURATIONS)
def test_no_copy_of_an_activation_and_no_matrix_of_the_size_of_the_weight_is_ever_made(components):
    trace = step(adapted(components))
    assert not copies(trace)
    assert not weight_sized(trace)


class Materialising(Linear):
    """What the layer must never become: right in value, but through delta W."""

    def forward(self, x, *args, **kwargs):
        A, B = self.cdka_A["default"], self.cdka_B["default"]
        delta = sum(torch.kron(b, a) for a, b in zip(A, B, strict=True)) * self.scaling["default"]
        return self.base_layer(x) + nn.functional.linear(x, delta)


class Copying(Linear):
    """The textbook formulation, which transposes activations."""

    def forward(self, x, *args, **kwargs):
        A, B = self.cdka_A["default"], self.cdka_B["default"]
        parts = x.view(len(x), B.shape[-1], -1)
        delta = torch.einsum("ipj,njq,iaq->npa", B, parts, A).reshape(len(x), -1)
        return self.base_layer(x) + self.scaling["default"] * delta


def test_the_probe_sees_a_materialised_delta_weight_and_a_copied_activation():
    config = CdkaConfig(init_weights="random")
    for kind, probe in ((Materialising, weight_sized), (Copying, copies)):
        layer = kind(nn.Linear(IN, OUT), "default", Components(2, 8, 4), 64.0, config)
        x = torch.randn(TOKENS, IN)
        layer.base_layer.requires_grad_(False)
        torch.testing.assert_close(layer(x), Linear.forward(layer, x), rtol=1e-4, atol=1e-4)
        assert probe(step(layer))


@pytest.mark.parametrize("materialise", [False, True])
def test_a_whole_training_step_of_a_model_never_holds_a_matrix_of_the_shape_of_a_weight(materialise, monkeypatch):
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        vocab_size=70, hidden_size=64, intermediate_size=160, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    config = CdkaConfig(r1=2, r2=4, r=3, target_modules=targets, init_weights="random")
    model = get_peft_model(transformers.LlamaForCausalLM(settings), config)
    if materialise:
        monkeypatch.setattr(Linear, "forward", Materialising.forward)
    ids = torch.randint(0, 70, (3, 7))
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with Trace() as trace:
        model(input_ids=ids, labels=ids).loss.backward()
        adam.step()
    adapted_layers = [m for m in model.modules() if isinstance(m, Linear)]
    forbidden = {(m.out_features, m.in_features) for m in adapted_layers}
    assert bool(trace.shapes & forbidden) == materialise


def test_the_kernels_of_a_pack_do_not_grow_with_the_number_of_adapters():
    counts = {}
    for k in (2, 8):
        config = CdkaConfig(init_weights="random")
        model = nn.Sequential(Linear(nn.Linear(IN, OUT), "a0", Components(2, 8, 4), 64.0, config))
        for i in range(1, k):
            model[0].update_layer(f"a{i}", Components(2, 8, 4), 64.0, config)
        model[0].base_layer.requires_grad_(False)
        with packed(model, [f"a{i}" for i in range(k)]):
            trace = step(model)
        counts[k] = len(trace.kernels)
        assert [name for name, _ in copies(trace)] in ([], ["mul"])  # the K expanded factors, not an activation
    assert counts[2] == counts[8] <= 2 + 8 + 2, counts  # two more to put the factors of a pack side by side


def test_peak_memory_counts_what_is_alive_at_one_time():
    x = torch.ones(100, 100)

    def run():
        y = x @ x
        z = y @ x
        del y
        return z @ x

    assert peak_bytes(run) == 2 * 100 * 100 * 4
    assert peak_bytes(lambda: x.view(-1)) == 0
