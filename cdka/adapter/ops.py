"""The arithmetic of a Kronecker adapter on top of a frozen linear map, without ever forming delta W.

``kron_linear`` is the definition, composed of ordinary differentiable operations. ``adapted_linear`` gives the
same values through one autograd function that also runs the base matrix product, so that the adapter is added
into its output and into the gradient of the input in place: no copy of the size of an activation is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cdka.adapter.forms import FORMS, product
from cdka.cost.kernels import form_of


class Group(NamedTuple):
    """Adapters of one shape at work on the rows ``start`` to ``stop`` of the input.

    Their factors are A (r, r1, in/r2) and B (r, out/r1, r2) where one adapter sees all these rows, or stacks of K
    of them, (K, r, r1, in/r2) and (K, r, out/r1, r2), where the rows are K equal slices, one per adapter.
    """

    start: int
    stop: int
    scaling: float
    form: str | None = None
    """One of ``forms.FORMS``; None chooses by the measured rule."""
    cache: dict[Any, tuple[Tensor, Tensor]] | None = None
    """Cache of the factors in the form in which they are used; None makes them anew each time."""


def kron_linear(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """``sum_i kron(B_i, A_i)`` applied to ``x`` without forming the matrix (paper, section on the method).

    Shapes: x (..., in), A (r, r1, in/r2), B (r, out/r1, r2) -> (..., out). With A (K, ...) and B (K, ...) x is
    (K, n, in) and slice k goes through adapter k. Computed in the dtype of x.
    """
    r2, q = B.shape[-1], A.shape[-1]
    lead = A.shape[:-3]
    rows = x.reshape(*lead, -1, q)
    T = rows @ A.to(x.dtype).reshape(*lead, -1, q).mT
    U = expand(B.to(x.dtype), A.shape[-2])
    y = T.reshape(*lead, -1, r2 * T.shape[-1]) @ U
    return y.reshape(*x.shape[:-1], y.shape[-1])


def expand(B: Tensor, r1: int) -> Tensor:
    """``U`` with ``sum_i kron(B_i, A_i) = U^T V``, of shape (..., r2 * r * r1, out), for B (..., r, out/r1, r2).

    V is the block-diagonal matrix of A: CDKA is a LoRA of rank r r1 r2 with structured factors (ours).
    """
    identity = torch.eye(r1, dtype=B.dtype, device=B.device)
    U = B.movedim(-1, -3)[..., None, :, None] * identity[:, None, :]
    return U.flatten(-5, -3).flatten(-2)


def delta_weight(A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """``scaling * sum_i kron(B_i, A_i)``, of shape (out, in): for inspection and merging, never for training."""
    r1, r2 = A.shape[-2], B.shape[-1]
    blocks = torch.einsum("ipj,iaq->pajq", B, A)
    return scaling * blocks.reshape(B.shape[-2] * r1, r2 * A.shape[-1])


def add_groups(y: Tensor, x: Tensor, groups: Sequence[Group], factors: Sequence[Tensor]) -> Tensor:
    """``y`` (N, out) plus what the adapters make of ``x`` (N, in), by ordinary differentiable operations."""
    for group, A, B in zip(groups, factors[::2], factors[1::2], strict=True):
        part = x[group.start : group.stop]
        delta = kron_linear(part.reshape(*A.shape[:-3], -1, part.shape[-1]), A, B).reshape(part.shape[0], -1)
        changed = y[group.start : group.stop] + group.scaling * delta.to(y.dtype)
        whole = group.stop - group.start == y.shape[0]
        y = changed if whole else torch.cat([y[: group.start], changed, y[group.stop :]])
    return y


def adapted_linear(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    base_output: Tensor | None,
    groups: Sequence[Group],
    factors: Sequence[Tensor],
    eager: bool | None = None,
) -> Tensor:
    """The base linear map of ``x`` (N, in) with the adapters of ``groups`` added, (N, out).

    Give either ``weight`` (out, in) with its bias, or the finished ``base_output`` of a layer that is not a plain
    matrix product. ``factors`` holds A and B of every group in turn; they may be of a higher precision than x, and
    their gradients are returned in their own. Rows of several groups may overlap; each sees the same x. ``eager`` is
    the answer of ``runs_eagerly`` where it is known.
    """
    if runs_eagerly(x, *factors) if eager is None else eager:
        return _AdaptedLinear.apply(x.contiguous(), weight, bias, base_output, tuple(groups), *factors)
    y = F.linear(x, weight, bias) if base_output is None else base_output
    return add_groups(y, x, groups, factors)


def runs_eagerly(*tensors: Tensor) -> bool:
    """True where our autograd functions may serve; elsewhere the composed operations do.

    They may not while compiling or tracing, under a function transform, or for subclasses (DTensor, fake tensors).
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active():
        return False
    return all(type(t) in (Tensor, torch.nn.Parameter) for t in tensors)


def _prepared(group: Group, form: str, A: Tensor, B: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A as (..., r * r1, in/r2) and B as the form wants it, in the precision of the computation."""
    if group.cache is None:
        return A.to(dtype).flatten(-3, -2), FORMS[form].prepare(B, A.shape[-2], dtype)
    key = (form, dtype, A._version, B._version, torch.is_inference_mode_enabled())
    if key not in group.cache:
        group.cache.clear()
        group.cache[key] = A.to(dtype).flatten(-3, -2), FORMS[form].prepare(B, A.shape[-2], dtype)
    return group.cache[key]


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, base_output, groups: tuple[Group, ...], *factors: Tensor) -> Tensor:
        y = F.linear(x, weight, bias) if base_output is None else base_output.clone()
        made, forms = [], []
        for group, A, B in zip(groups, factors[::2], factors[1::2], strict=True):
            *lead, r, r1, q = A.shape
            tokens = (group.stop - group.start) // (lead[0] if lead else 1)
            name = group.form or form_of(tokens, r1, B.shape[-1], r, x.shape[-1], x.device.type)
            form = FORMS[name]
            A2, prepared = _prepared(group, name, A, B, x.dtype)
            T = x[group.start : group.stop].view(*lead, -1, q) @ A2.mT
            T = form.arrange(T.view(*lead, tokens, B.shape[-1] * r * r1), r1)
            part = y[group.start : group.stop].view(*lead, tokens, y.shape[-1])
            form.add_(part, T, prepared, r1, group.scaling)
            made += [A2, T, prepared]
            forms.append(form)
        ctx.groups, ctx.forms, ctx.num_factors = groups, forms, len(factors)
        ctx.save_for_backward(x, weight, bias, base_output, *factors, *made)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, base_output, *rest = ctx.saved_tensors
        factors, made = rest[: ctx.num_factors], rest[ctx.num_factors :]
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted: differentiate the definition
            return differentiable_gradients(
                ctx.needs_input_grad, ctx.groups, grad, x, weight, bias, base_output, factors
            )
        needs = ctx.needs_input_grad
        grad = grad.contiguous()
        dx = None
        if needs[0]:
            dx = torch.zeros_like(x) if weight is None else grad @ weight
        d_factors: list[Tensor | None] = []
        for i, (group, form) in enumerate(zip(ctx.groups, ctx.forms, strict=True)):
            A, B = factors[2 * i : 2 * i + 2]
            A2, T, prepared = made[3 * i : 3 * i + 3]
            *lead, r, r1, q = A.shape
            part = grad[group.start : group.stop].view(*lead, -1, grad.shape[-1])
            need_A, need_B = needs[5 + 2 * i], needs[6 + 2 * i]
            dA = dB = None
            if needs[0] or need_A:
                dT = form.to_T(part, prepared, r1).view(*lead, -1, r * r1)
            if need_A:
                inputs = x[group.start : group.stop].view(*lead, -1, q)
                dA = product(dT.mT, inputs, group.scaling).view(A.shape).to(A.dtype)
            if need_B:
                dB = form.to_B(T, part, B, r1, group.scaling)
            if needs[0]:
                into = dx[group.start : group.stop].view(*lead, -1, q)
                (into.baddbmm_ if lead else into.addmm_)(dT, A2, alpha=group.scaling)
            d_factors += [dA, dB]
        d_weight = grad.mT @ x if needs[1] else None
        d_bias = grad.sum(0) if needs[2] else None
        return dx, d_weight, d_bias, grad if needs[3] else None, None, *d_factors


def differentiable_gradients(
    needs: Sequence[bool], groups: Sequence[Group], grad: Tensor, x, weight, bias, base_output, factors
) -> tuple[Tensor | None, ...]:
    """The gradients that ``needs`` asks for, in the order of x, weight, bias, base output, groups and factors.

    By the definition, so that they can be differentiated again.
    """
    y = F.linear(x, weight, bias) if base_output is None else base_output
    y = add_groups(y, x, groups, factors)
    inputs = [x, weight, bias, base_output, None, *factors]
    wanted = [i for i, need in enumerate(needs) if need]
    found = torch.autograd.grad(y, [inputs[i] for i in wanted], grad, create_graph=True)
    gradients: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return tuple(gradients)
