"""Adapted convolutions and embeddings: the adapter's part is added to what the base layer gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cdka.adapter.features import as_weight
from cdka.adapter.layer import AdaptedModule
from cdka.adapter.mixing import BASE, Assignment
from cdka.adapter.ops import delta_weight


class _WeightLayer(AdaptedModule):
    """A layer other than linear, adapter by adapter: ``y = base(x) + the adapter's part``."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus that of every active adapter, or of those that the batch is assigned to."""
        assignment = self._assigned(kwargs)
        if self._disable_adapters or self.merged_adapters:
            return self._untouched(x, *args, **kwargs)
        y = self.base_layer(x, *args, **kwargs)
        if self._factors_are_offloaded():
            with self._factors_on_device():
                return self._add(y, x, assignment)
        return self._add(y, x, assignment)

    def _add(self, y: Tensor, x: Tensor, assignment: Assignment | None) -> Tensor:
        if assignment is None:
            for name in self._present(self.active_adapters):
                y = y + self._applied(x, name, y.dtype)
            return y
        assignment.check(len(x), f"a {type(self.get_base_layer()).__name__}")
        samples = assignment.order or range(len(x))
        unit, start = len(x) // assignment.units, 0
        for name, length in assignment.runs:
            stop = start + length * unit
            if name != BASE and name in self.cdka_A:
                mine = torch.tensor(samples[start:stop], device=x.device)
                y = y.index_add(0, mine, self._applied(x[mine], name, y.dtype))
            start = stop
        return y

    def _applied(self, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        """The adapter's part of the output for x, in the precision of the output."""
        raise NotImplementedError


class ConvNd(_WeightLayer):
    """``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``; their weight is adapted as the matrix (out, in * kernel)."""

    def _applied(self, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        A, B = self._factor("A", (name,)), self._factor("B", (name,))
        delta = as_weight(delta_weight(A, B, self.scaling[name]), self.get_base_layer()).to(dtype)
        return self.get_base_layer()._conv_forward(x.to(dtype), delta, None)


class Embedding(_WeightLayer):
    """``nn.Embedding``; its table is adapted as the map from one-hot tokens, (out, tokens), and never formed."""

    def _applied(self, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        A, B = self._factor("A", (name,)), self._factor("B", (name,))  # (r, r1, tokens/r2), (r, out/r1, r2)
        block = A.shape[-1]
        columns, parts = A[..., x % block], B[..., x // block]  # (r, r1, ...), (r, out/r1, ...)
        y = torch.einsum("ip...,ia...->...pa", parts, columns)  # (..., out/r1, r1)
        return (self.scaling[name] * y.flatten(-2)).to(dtype)
