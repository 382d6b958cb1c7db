"""Packs over small layers as one stacked product: the same values and gradients, and only where the rule allows it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from cdka.adapter import CdkaConfig, Linear, linear, packed
from cdka.adapter.ops import Group, adapted_linear
from cdka.adapter.stacked import can_stack, stacked_linear
from cdka.bench.tracing import Trace
from cdka.components import Components
from cdka.cost.kernels import STACKED_ROWS, STACKED_WEIGHTS, stacking_pays

OUT, IN, ROWS = 24, 32, 5


def factors(r1, r2, r, lead=()):
    A = torch.randn(*lead, r, r1, IN // r2, dtype=torch.float64, requires_grad=True)
    B = torch.randn(*lead, r, OUT // r1, r2, dtype=torch.float64, requires_grad=True)
    return A, B


def mixture():
    """Six slices: two adapters of one shape, one slice of the base alone, two of other shapes, the base again."""
    groups = [Group(0, 2 * ROWS, 0.7), Group(3 * ROWS, 4 * ROWS, 1.3), Group(4 * ROWS, 5 * ROWS, 0.2)]
    return groups, [*factors(2, 8, 3, lead=(2,)), *factors(4, 2, 1), *factors(1, 1, 2)]


def frozen(bias: bool):
    make = lambda *size: torch.randn(*size, dtype=torch.float64, requires_grad=True)  # noqa: E731
    return make(6 * ROWS, IN), make(OUT, IN), make(OUT) if bias else None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
def test_outputs_and_every_gradient_are_those_of_separate_products(bias, transposed):
    groups, parts = mixture()
    x, W, b = frozen(bias)
    weight = W.detach().T.contiguous().T.requires_grad_() if transposed else W
    inputs = [t for t in (x, weight, b, *parts) if t is not None]
    ours = stacked_linear(x, weight, b, groups, parts)
    oracle = adapted_linear(x, weight, b, None, groups, parts)
    grad = torch.randn_like(oracle)
    torch.testing.assert_close(ours, oracle, rtol=1e-12, atol=1e-12)
    both = [torch.autograd.grad(y, inputs, grad, retain_graph=True) for y in (ours, oracle)]
    for got, expected in zip(*both, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    kron = sum(torch.kron(B, A) for A, B in zip(parts[2], parts[3], strict=True))
    by_hand = x[3 * ROWS : 4 * ROWS] @ (W + 1.3 * kron).T + (0 if b is None else b)
    torch.testing.assert_close(ours[3 * ROWS : 4 * ROWS], by_hand, rtol=1e-12, atol=1e-12)


def test_second_derivatives_are_right():
    make = lambda *size: torch.randn(*size, dtype=torch.float64, requires_grad=True)  # noqa: E731
    x, W, b, A, B = make(4, 4), make(6, 4), make(6), make(1, 2, 2), make(1, 3, 2)
    groups = [Group(2, 4, 0.7)]
    run = lambda *t: stacked_linear(*t[:3], groups, t[3:])  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, W, b, A, B))
    assert torch.autograd.gradgradcheck(run, (x, W, b, A, B))


@pytest.mark.parametrize("linear", [stacked_linear, lambda x, W, b, g, f: adapted_linear(x, W, b, None, g, f)])
def test_second_derivatives_reach_an_input_that_is_not_contiguous(linear):
    make = lambda *size: torch.randn(*size, dtype=torch.float64, requires_grad=True)  # noqa: E731
    x, W, A, B = make(4, 4), make(6, 4).detach(), make(1, 2, 2), make(1, 3, 2)
    y = linear(x.T, W, None, [Group(2, 4, 0.7)], [A, B])
    (dA,) = torch.autograd.grad(y.square().sum(), A, create_graph=True)
    assert torch.autograd.grad(dA.sum(), x)[0].abs().max() > 0


def test_frozen_parts_get_no_gradient():
    x, W, b = (t.detach() for t in frozen(bias=True))
    groups, parts = mixture()
    parts[2].requires_grad_(False)
    parts[3].requires_grad_(False)
    stacked_linear(x, W, b, groups, parts).square().sum().backward()
    assert [p.grad is not None for p in parts] == [True, True, False, False, True, True]


def pack_of(components, base=None, rows=STACKED_ROWS, dtype=torch.float32):
    base = nn.Linear(64, 96, dtype=dtype) if base is None else base
    config = CdkaConfig(init_weights="random")
    module = Linear(base, "a0", Components(*components[0]), 8.0, config)
    for i, c in enumerate(components[1:], 1):
        module.update_layer(f"a{i}", Components(*c), 8.0, config)
    module.base_layer.requires_grad_(False)
    return nn.Sequential(module), torch.randn(rows * len(components), 64, dtype=dtype)


def stacked_in(model, x, names) -> bool:
    """Whether the layer took the stacked way, seen from the shapes that it made."""
    weights = (len(names), model[0].out_features, model[0].in_features)
    with packed(model, names), Trace() as trace:
        model(x).sum().backward()
    return weights in trace.shapes


LARGE = [(2, 8, 4), (4, 16, 2), (2, 8, 1)]


@pytest.mark.parametrize("base", [None, Conv1D(96, 64)], ids=["linear", "conv1d"])
def test_a_layer_takes_the_stacked_way_and_says_the_same(base, monkeypatch):
    model, x = pack_of(LARGE, base)
    names = ["a0", "a1", "a2"]
    with packed(model, names):
        ours = model(x)
        monkeypatch.setattr(linear, "can_stack", lambda *given: False)
        factored = model(x)
    torch.testing.assert_close(ours, factored, rtol=1e-4, atol=1e-4)
    monkeypatch.undo()
    assert stacked_in(model, x, names)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputed_activations_give_the_same_gradients(use_reentrant):
    model, x = pack_of(LARGE)
    x.requires_grad_()
    names = ["a0", "a1", "a2"]
    found = []
    for run in (model, lambda t: checkpoint(model, t, use_reentrant=use_reentrant)):
        with packed(model, names):
            leaves = [x, *(p for p in model.parameters() if p.requires_grad)]
            run(x).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
        for leaf in leaves:
            leaf.grad = None
    assert len(found[0]) == 7, "the input, and two factors of each adapter"
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain)


def test_under_autocast_the_factored_way_is_taken():
    model, x = pack_of(LARGE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not stacked_in(model, x, ["a0", "a1", "a2"])


def test_only_small_layers_with_enough_rows_and_rank_and_one_precision_take_it():
    names = ["a0", "a1", "a2"]
    few, x = pack_of(LARGE, rows=STACKED_ROWS - 1)
    assert not stacked_in(few, x, names)
    thin, x = pack_of([(1, 1, 2), (1, 2, 1), (2, 2, 1)])
    assert not stacked_in(thin, x, names)
    big, x = pack_of(LARGE, nn.Linear(64, 2 * STACKED_WEIGHTS // 64))
    assert not stacked_in(big, x, names)
    half, x = pack_of(LARGE, dtype=torch.bfloat16)
    half[0].cdka_A.float()
    half[0].cdka_B.float()
    assert not stacked_in(half, x, names)
    low, x = pack_of(LARGE, dtype=torch.bfloat16)
    assert not stacked_in(low, x, names), "in bfloat16 the sum of weight and delta W would lose most of delta W"
    assert stacking_pays(64, 2, 128, 128, [(2, 8, 4)] * 2, "cpu")
    assert not stacking_pays(64, 2, 128, 128, [(2, 8, 4)] * 2, "cuda")
    assert not stacking_pays(64, 128, 128, 128, [(2, 8, 4)] * 2, "cpu"), "mostly slices of the base alone"


def test_a_single_adapter_never_takes_it_nor_do_two_on_the_same_rows():
    x, W = torch.randn(1_000, IN, dtype=torch.float64), torch.randn(OUT, IN, dtype=torch.float64)
    A, B = factors(2, 8, 3)
    one = Group(0, 1_000, 1.0)
    assert not can_stack(x, W, [one], [A, B])
    assert not can_stack(x, W, [one, one], [A, B, A, B])
    halves = [Group(0, 500, 1.0), Group(500, 1_000, 1.0)]
    assert can_stack(x, W, halves, [A, B, A, B])
    assert not can_stack(x, W, [Group(0, 400, 1.0), Group(400, 1_000, 1.0)], [A, B, A, B]), "unequal slices"
