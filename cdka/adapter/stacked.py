"""Packs over small layers: one matrix per adapter, the base weight included, and one stacked product for all of them.

Everywhere else delta W is never formed. Here the layer is smaller than what passes through it: eight adapters of a
layer of 128 x 128 hold half a megabyte of matrices, their batch several. One product per adapter, whatever its
components, then takes the place of the base's product and of many small ones where the shapes of a pack differ. (ours;
``cost.stacking_pays`` is the measured rule)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cdka.adapter.forms import product
from cdka.adapter.ops import Group, differentiable_gradients, runs_eagerly
from cdka.cost.kernels import stacking_pays

_PRECISE = (torch.float32, torch.float64)


def can_stack(x: Tensor, weight: Tensor, groups: Sequence[Group], factors: Sequence[Tensor]) -> bool:
    """True where ``stacked_linear`` can serve this batch and is the faster way.

    It can where all is in float32 or all in float64 (below that, delta W would drown in the rounding of the sum) and
    the batch is two or more equal slices, each of one adapter at most.
    """
    unit = _rows_of_one(groups[0], factors[0])
    slices, rest = divmod(len(x), max(unit, 1))
    if slices < 2 or rest or not runs_eagerly(x, *factors):  # the first is all that a single adapter pays
        return False
    if weight.dtype not in _PRECISE or {t.dtype for t in factors} | {x.dtype} != {weight.dtype}:
        return False
    end = 0
    for group, A in zip(groups, factors[::2], strict=True):
        if _rows_of_one(group, A) != unit or group.start < end or group.start % unit:
            return False
        end = group.stop
    components = [
        (A.shape[-2], B.shape[-1], A.shape[-3])
        for A, B in zip(factors[::2], factors[1::2], strict=True)
        for _ in range(A.shape[0] if A.dim() == 4 else 1)
    ]
    return stacking_pays(unit, slices, *weight.shape, components, x.device.type)


def stacked_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, groups: Sequence[Group], factors: Sequence[Tensor]
) -> Tensor:
    """The result of ``ops.adapted_linear`` for a batch of equal slices: ``x`` (N, in) -> (N, out).

    ``factors`` holds A and B of every group in turn, of the precision of x. Slices without a group go through the base
    weight alone.
    """
    return _StackedLinear.apply(x.contiguous(), weight, bias, tuple(groups), *factors)


class _StackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, groups: tuple[Group, ...], *factors: Tensor) -> Tensor:
        matrices = _matrices(len(x), weight, groups, factors)
        slices = x.view(len(matrices), -1, x.shape[-1])
        y = slices @ matrices.mT if bias is None else torch.baddbmm(bias, slices, matrices.mT)
        ctx.groups = groups
        ctx.save_for_backward(x, weight, bias, matrices, *factors)
        return y.view(len(x), -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, matrices, *factors = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():
            wanted = (*needs[:3], False, None, *needs[4:])
            found = differentiable_gradients(wanted, ctx.groups, grad, x, weight, bias, None, factors)
            return *found[:3], *found[4:]
        count = len(matrices)
        grads, slices = grad.contiguous().view(count, -1, grad.shape[-1]), x.view(count, -1, x.shape[-1])
        dx = (grads @ matrices).view(x.shape) if needs[0] else None
        d_matrices = grads.mT @ slices if any(needs[4:]) else None
        d_factors: list[Tensor | None] = []
        for i, group in enumerate(ctx.groups):
            A, B = factors[2 * i : 2 * i + 2]
            part = d_matrices[_slices(group, len(x) // count)] if any(needs[4 + 2 * i : 6 + 2 * i]) else None
            d_factors += (None, None) if part is None else _factor_gradients(part, A, B, group.scaling)
        d_weight = grad.mT @ x if needs[1] else None
        d_bias = grad.sum(0) if needs[2] else None
        return dx, d_weight, d_bias, None, *d_factors


def _rows_of_one(group: Group, A: Tensor) -> int:
    """The rows that each adapter of a group sees."""
    return (group.stop - group.start) // (A.shape[0] if A.dim() == 4 else 1)


def _slices(group: Group, unit: int) -> slice:
    return slice(group.start // unit, group.stop // unit)


def _matrices(rows: int, weight: Tensor, groups: Sequence[Group], factors: Sequence[Tensor]) -> Tensor:
    """The weight of each slice, (K, out, in): the base weight plus the delta W of its adapter."""
    unit = _rows_of_one(groups[0], factors[0])
    matrices = weight.new_empty(rows // unit, *weight.shape)
    done = 0
    for group, A, B in zip(groups, factors[::2], factors[1::2], strict=True):
        mine = _slices(group, unit)
        if done < mine.start:
            matrices[done : mine.start] = weight
        _merge_into(matrices[mine], weight, A, B, group.scaling)
        done = mine.stop
    if done < len(matrices):
        matrices[done:] = weight
    return matrices


def _merge_into(matrices: Tensor, weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> None:
    """Writes ``weight + scaling * sum_i kron(B_i, A_i)`` into ``matrices`` (K, out, in), for K adapters or for one.

    The sum, rearranged, is one product of the factors: R(delta W) = B^T A, of shape (out/r1 * r2, r1 * in/r2).
    """
    A2, B2, (p, r1, r2, q) = _rearranged(A, B)
    base = weight.unflatten(1, (r2, q)).unflatten(0, (p, r1))
    delta = (B2.mT @ A2).view(-1, p, r2, r1, q).transpose(2, 3)
    torch.add(base, delta, alpha=scaling, out=matrices.view(-1, p, r1, r2, q))


def _factor_gradients(d_matrices: Tensor, A: Tensor, B: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """The gradients of A and B from those of their matrices, (K, out, in): the transpose of ``_merge_into``."""
    A2, B2, (p, r1, r2, q) = _rearranged(A, B)
    R = d_matrices.view(-1, p, r1, r2, q).transpose(2, 3).reshape(-1, p * r2, r1 * q)
    return product(B2, R, scaling).view(A.shape), product(A2, R.mT, scaling).view(B.shape)


def _rearranged(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """A as (K, r, r1 * in/r2), B as (K, r, out/r1 * r2), and (out/r1, r1, r2, in/r2)."""
    (r, r1, q), (p, r2) = A.shape[-3:], B.shape[-2:]
    return A.reshape(-1, r, r1 * q), B.reshape(-1, r, p * r2), (p, r1, r2, q)
