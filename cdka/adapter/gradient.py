"""Gradient-based initialisation: A from the truncated singular value decomposition of the rearranged gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from cdka.adapter.layer import CdkaLayer
from cdka.components import Components
from cdka.errors import CdkaError, unknown


def weight_gradients(model: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """The gradient of ``loss()`` with respect to the base weight of every adapted layer, (out, in) each, by name.

    ``loss`` runs the model and returns a scalar. Nothing of the model is changed.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, CdkaLayer)}
    weights = {name: layer.get_base_layer().weight for name, layer in layers.items()}
    before = {name: weight.requires_grad for name, weight in weights.items()}
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        with torch.enable_grad():
            found = torch.autograd.grad(loss(), list(weights.values()), allow_unused=True)
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(before[name])
    return {
        name: layers[name].weight_gradient(gradient)
        for name, gradient in zip(weights, found, strict=True)
        if gradient is not None
    }


@torch.no_grad()
def initialise_from_gradient(
    model: nn.Module, gradients: Mapping[str, Tensor], adapter_name: str = "default"
) -> dict[str, float]:
    """Points every A_i along a leading direction of the layer's gradient; returns the alignment reached, by layer.

    With B zero, the first step moves delta W along the projection of R(G) on the span of vec(A_i). The best span is
    that of the leading right singular vectors of R(G), which make the cosine with full fine-tuning's first step
    ``sqrt(sum_{i<=r} s_i^2 / sum s_i^2)`` (ours). The A_i keep the norm that Kaiming's rule gives them on average;
    delta W still starts at zero. ``gradients`` maps names of adapted layers to (out, in), as ``weight_gradients``
    returns; every layer with the adapter needs one.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, CdkaLayer) and adapter_name in module.cdka_A
    }
    if not layers:
        raise unknown("adapter", adapter_name, getattr(model, "peft_config", ()))
    problems = []
    for name, layer in layers.items():
        expected = (layer.out_features, layer.in_features)
        got = tuple(gradients[name].shape) if name in gradients else None
        if got != expected:
            problems.append(f"{name!r} needs {expected}, got {'none' if got is None else got}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CdkaError(f"every adapted layer needs its gradient: {'; '.join(problems[:3])}{more}.")
    reached = {}
    for name, layer in layers.items():
        directions, reached[name] = leading_directions(gradients[name], layer.components[adapter_name])
        A, B = layer.cdka_A[adapter_name], layer.cdka_B[adapter_name]
        A.copy_(directions * math.sqrt(A.shape[1] / 3))
        B.zero_()
        layer.awaiting_gradient.discard(adapter_name)
    return reached


def initialised_elsewhere(model: nn.Module, adapter_name: str = "default") -> None:
    """Let an adapter train whose factors, from a checkpoint say, take the place of its initialisation."""
    for module in model.modules():
        if isinstance(module, CdkaLayer):
            module.awaiting_gradient.discard(adapter_name)


def leading_directions(gradient: Tensor, components: Components) -> tuple[Tensor, float]:
    """The r leading right singular vectors of R(G) as A (r, r1, in/r2), each of norm one, and the share they capture.

    Computed from the smaller Gram matrix in float64, so the result does not depend on a random draw. Directions
    beyond the rank of R(G) are filled with an orthonormal completion.
    """
    r1, r2, r = components.as_tuple()
    out_features, in_features = gradient.shape
    q = in_features // r2
    blocks = gradient.detach().double().reshape(out_features // r1, r1, r2, q)
    R = blocks.permute(0, 2, 1, 3).reshape(-1, r1 * q)
    if r > R.shape[1]:
        raise CdkaError(
            f"r cannot exceed the r1 * in_features / r2 = {R.shape[1]} entries of A_i here: got r={r}. Use a smaller r."
        )
    total = R.square().sum()
    if R.shape[1] <= R.shape[0]:
        V = torch.linalg.eigh(R.T @ R).eigenvectors.flip(-1)[:, :r]
    else:
        U = torch.linalg.eigh(R @ R.T).eigenvectors.flip(-1)[:, :r]
        V = torch.linalg.qr(torch.cat([R.T @ U, torch.eye(R.shape[1], r, dtype=R.dtype, device=R.device)], 1)).Q[:, :r]
    captured = (R @ V).square().sum()
    share = float((captured / total).sqrt()) if total > 0 else 0.0
    return V.T.reshape(r, r1, q).to(gradient.dtype), share
