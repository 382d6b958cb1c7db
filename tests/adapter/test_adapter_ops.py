"""The arithmetic against ``torch.kron`` in float64, with pairwise distinct dimensions."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from cdka.adapter import CdkaConfig, Linear, delta_weight, kron_linear
from cdka.adapter.forms import FORMS
from cdka.adapter.init import initialise
from cdka.adapter.ops import Group, adapted_linear, add_groups
from cdka.components import Components
from cdka.cost.kernels import form_of

SHAPES = [(24, 64, 2, 8, 4), (24, 64, 1, 1, 3), (64, 24, 4, 6, 2), (60, 24, 12, 4, 1)]  # out, in, r1, r2, r
TOKENS = 6


def factors(out, in_, r1, r2, r, lead=()):
    A = torch.randn(*lead, r, r1, in_ // r2, dtype=torch.float64, requires_grad=True)
    B = torch.randn(*lead, r, out // r1, r2, dtype=torch.float64, requires_grad=True)
    return A, B


def kron_sum(A, B):
    return sum(torch.kron(b, a) for a, b in zip(A, B, strict=True))


def frozen(out, in_):
    make = lambda *size: torch.randn(*size, dtype=torch.float64, requires_grad=True)  # noqa: E731
    return make(TOKENS, in_), make(out, in_), make(out)


def assert_same(ours, oracle, inputs):
    grad = torch.randn_like(oracle)
    torch.testing.assert_close(ours, oracle, rtol=1e-12, atol=1e-12)
    both = [torch.autograd.grad(y, inputs, grad, retain_graph=True) for y in (ours, oracle)]
    for got, expected in zip(*both, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_is_the_sum_of_kronecker_products(shape):
    A, B = factors(*shape)
    x = torch.randn(2, 3, shape[1], dtype=torch.float64, requires_grad=True)
    assert_same(kron_linear(x, A, B), x @ kron_sum(A, B).T, [x, A, B])
    torch.testing.assert_close(delta_weight(A.detach(), B.detach(), 0.7), 0.7 * kron_sum(A, B).detach())


@pytest.mark.parametrize("form", [*FORMS, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_every_gradient_of_the_fused_function_match_the_merged_weight(shape, form):
    x, W, b = frozen(*shape[:2])
    A, B = factors(*shape)
    ours = adapted_linear(x, W, b, None, [Group(0, TOKENS, 0.7, form)], [A, B])
    assert_same(ours, nn.functional.linear(x, W + 0.7 * kron_sum(A, B), b), [x, W, b, A, B])


@pytest.mark.parametrize("form", [*FORMS, None])
def test_a_stack_of_adapters_gives_each_slice_its_own(form):
    shape = SHAPES[0]
    x, W, b = frozen(*shape[:2])
    A, B = factors(*shape, lead=(3,))
    ours = adapted_linear(x, W, b, None, [Group(0, TOKENS, 0.7, form)], [A, B])
    slices = [x[2 * k : 2 * k + 2] @ (W + 0.7 * kron_sum(A[k], B[k])).T + b for k in range(3)]
    assert_same(ours, torch.cat(slices), [x, W, b, A, B])


def test_groups_on_part_of_the_rows_and_on_the_same_rows():
    x, W, b = frozen(24, 64)
    one, two = factors(*SHAPES[0]), factors(24, 64, 3, 4, 2)
    groups = [Group(1, 4, 0.7), Group(2, 6, 1.3)]
    ours = adapted_linear(x, W, b, None, groups, [*one, *two])
    first = torch.zeros(TOKENS, 1, dtype=torch.float64)
    second = first.clone()
    first[1:4], second[2:6] = 0.7, 1.3
    oracle = x @ W.T + b + first * (x @ kron_sum(*one).T) + second * (x @ kron_sum(*two).T)
    assert_same(ours, oracle, [x, W, b, *one, *two])
    assert_same(add_groups(x @ W.T + b, x, groups, [*one, *two]), oracle, [x, W, b, *one, *two])


def test_a_finished_base_output_is_added_to_and_left_alone():
    x, W, _ = frozen(24, 64)
    A, B = factors(*SHAPES[0])
    base = torch.tanh(x @ W.T)
    before = base.detach().clone()
    ours = adapted_linear(x, None, None, base, [Group(0, TOKENS, 0.7)], [A, B])
    assert torch.equal(base, before)
    assert_same(ours, base + 0.7 * (x @ kron_sum(A, B).T), [x, W, A, B])


def test_second_derivatives_are_right():
    x, W, b = frozen(12, 8)
    A, B = factors(12, 8, 2, 4, 2)
    run = lambda *t: adapted_linear(*t[:3], None, [Group(0, TOKENS, 0.7)], t[3:])  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, W, b, A, B))
    assert torch.autograd.gradgradcheck(run, (x, W, b, A, B))


def test_a_frozen_input_or_a_frozen_factor_gets_no_gradient():
    x, W, b = (t.detach() for t in frozen(24, 64))
    A, B = factors(*SHAPES[0])
    ours = adapted_linear(x, W, b, None, [Group(0, TOKENS, 0.7)], [A.detach(), B])
    assert_same(ours, x @ (W + 0.7 * kron_sum(A.detach(), B)).T + b, [B])


def test_composed_operations_serve_function_transforms():
    x, W, b = (t.detach() for t in frozen(24, 64))
    A, B = (t.detach() for t in factors(*SHAPES[0]))
    loss = lambda A, row: adapted_linear(row, W, b, None, [Group(0, 1, 0.7)], [A, B]).square().sum()  # noqa: E731
    per_sample = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(A, x[:, None])
    leaf = A.clone().requires_grad_()
    total = (x @ (W + 0.7 * kron_sum(leaf, B)).T + b).square().sum()
    torch.testing.assert_close(per_sample.sum(0), torch.autograd.grad(total, leaf)[0])


def test_gradients_of_fp32_factors_over_bf16_activations_come_back_in_fp32():
    layer = Linear(nn.Linear(64, 24).bfloat16(), "a", Components(2, 8, 4), 8.0, CdkaConfig(init_weights="random"))
    layer.cdka_A.float()
    layer.cdka_B.float()
    x = torch.randn(TOKENS, 64, dtype=torch.bfloat16, requires_grad=True)
    y = layer(x)
    y.float().square().sum().backward()
    assert (y.dtype, x.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    exact = copy.deepcopy(layer).double()
    exact.zero_grad()
    x64 = x.detach().double()
    exact(x64).square().sum().backward()
    for name in ("cdka_A", "cdka_B"):
        got, expected = getattr(layer, name)["a"].grad, getattr(exact, name)["a"].grad
        assert got.dtype == torch.float32
        assert (got - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("bias", [True, False])
def test_components_one_one_r_are_lora_with_rank_stabilised_scaling(bias):
    model = nn.Sequential(nn.Linear(64, 24, bias=bias).double())
    ours = get_peft_model(
        copy.deepcopy(model), CdkaConfig(r1=1, r2=1, r=3, alpha=7, target_modules=["0"], init_weights="random")
    )
    lora = get_peft_model(model, LoraConfig(r=3, lora_alpha=7, use_rslora=True, target_modules=["0"]))
    mine, theirs = ours.base_model.model[0], lora.base_model.model[0]
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(mine.cdka_A["default"][:, 0, :])
        theirs.lora_B["default"].weight.copy_(mine.cdka_B["default"][:, :, 0].T)
    x = torch.randn(5, 64, dtype=torch.float64)
    assert mine.scaling["default"] == theirs.scaling["default"]
    torch.testing.assert_close(ours(x), lora(x), rtol=1e-12, atol=1e-12)


def test_every_component_is_initialised_with_the_fan_in_of_a_single_one():
    torch.manual_seed(0)
    A, B = torch.empty(16, 4, 300), torch.ones(16, 6, 8)
    initialise(A, B)
    assert B.abs().max() == 0
    bound = 300**-0.5
    assert 0.99 * bound < A.abs().max() <= bound
    assert A.std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_the_rule_keeps_the_copy_free_form_for_the_usual_configurations():
    for d in (1024, 4096):
        for r1, r2, r in [(2, 8, 4), (1, 8, 2), (2, 2, 8), (4, 16, 2), (1, 1, 16)]:
            assert form_of(2048, r1, r2, r, d, "cpu") == form_of(2048, r1, r2, r, d, "cuda") == "expanded"
    assert form_of(1, 2, 8, 4, 1024, "cpu") == "blocked"
    assert form_of(1088, 64, 4, 1, 128, "cpu") == "blocked"
    assert form_of(1088, 4, 64, 1, 128, "cpu") == "transposed"
