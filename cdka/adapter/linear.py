"""The adapted linear layer: the method on one screen, and beside it the fused form that training uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from cdka.adapter.layer import AdaptedModule
from cdka.adapter.mixing import BASE, Assignment
from cdka.adapter.ops import Group, adapted_linear, kron_linear, runs_eagerly
from cdka.adapter.stacked import can_stack, stacked_linear

Slice = tuple[tuple[str, ...], int, int]
"""(adapters, first row, row after the last): the rows that adapters of one shape serve, in equal parts."""


class Linear(AdaptedModule):
    """A linear layer (``nn.Linear``, transformers' ``Conv1D``, or a quantised one) with Kronecker adapters."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus ``scaling * sum_i kron(B_i, A_i) x`` for every active adapter.

        Where the batch is assigned to adapters, each part of it goes through its own.
        """
        assignment = self._assigned(kwargs)
        if self._disable_adapters or self.merged_adapters:
            return self._untouched(x, *args, **kwargs)
        if self._factors_are_offloaded():
            with self._factors_on_device():
                return self._adapted(x, assignment, args, kwargs)
        return self._adapted(x, assignment, args, kwargs)

    def _adapted(self, x: Tensor, assignment: Assignment | None, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        if assignment is not None:
            return self._shared(x, assignment, args, kwargs)
        adapters = self._present(self.active_adapters)
        factors = [self._factor(part, (name,)) for name in adapters for part in ("A", "B")]
        if runs_eagerly(x, *factors):
            rows = x.numel() // self.in_features
            return self._fused(x, [((name,), 0, rows) for name in adapters], factors, args, kwargs, eager=True)
        y = self.base_layer(x, *args, **kwargs)  # (..., in) -> (..., out)
        x = x.to(y.dtype)
        for name, A, B in zip(adapters, factors[::2], factors[1::2], strict=True):  # (r, r1, in/r2), (r, out/r1, r2)
            y = y + self.scaling[name] * kron_linear(x, A, B).to(y.dtype)  # (..., out)
        return y

    def _fused(
        self,
        x: Tensor,
        plan: list[Slice],
        factors: list[Tensor],
        args: tuple,
        kwargs: dict[str, Any],
        eager: bool | None = None,
    ) -> Tensor:
        """The same values in one autograd function with the base product, without copies of activations."""
        if not plan:
            return self.base_layer(x, *args, **kwargs)
        groups = [
            Group(start, stop, self.scaling[names[0]], cache=self._cache_of(names)) for names, start, stop in plan
        ]
        if args or kwargs or not self._base_is_plain():
            base = self.base_layer(x, *args, **kwargs)  # (..., in) -> (..., out)
            rows = x.reshape(-1, self.in_features).to(base.dtype)  # (N, in)
            y = adapted_linear(
                rows, None, None, base.reshape(-1, self.out_features), groups, factors, eager
            )  # (N, out)
            return y.view(base.shape)
        weight, bias = self.base_layer.weight, self.base_layer.bias
        if isinstance(self.base_layer, Conv1D):
            weight = weight.T
        if not x.is_meta and torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        rows = x.reshape(-1, self.in_features)  # (N, in)
        if can_stack(rows, weight, groups, factors):
            y = stacked_linear(rows, weight, bias, groups, factors)
        else:
            y = adapted_linear(rows, weight, bias, None, groups, factors, eager)
        return y.view(*x.shape[:-1], self.out_features)

    def _shared(self, x: Tensor, assignment: Assignment, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """The batch divided between adapters, brought into their order and back where they are mixed."""
        assignment.check(len(x), f"a layer of {self.in_features} x {self.out_features} features")
        plan = self._plan(x, assignment)
        factors = [self._factor(part, names) for names, _, _ in plan for part in ("A", "B")]
        if assignment.order is None:
            return self._fused(x, plan, factors, args, kwargs)
        order = torch.tensor(assignment.order, device=x.device)
        return self._fused(x[order], plan, factors, args, kwargs)[torch.argsort(order)]

    def _plan(self, x: Tensor, assignment: Assignment) -> list[Slice]:
        """The rows of every adapter; adapters of one shape and scaling side by side share their products."""
        unit = x.numel() // self.in_features // assignment.units
        plan: list[Slice] = []
        kinds: list[object] = []
        start = 0
        for name, length in assignment.runs:
            stop = start + length * unit
            kind = (self.components[name], self.scaling[name], length) if name in self.components else None
            if kind is not None and kinds and kinds[-1] == kind and plan[-1][2] == start:
                names, first, _ = plan.pop()
                plan.append(((*names, name), first, stop))
            elif kind is not None and name != BASE:
                plan.append(((name,), start, stop))
                kinds.append(kind)
            start = stop
        return plan

    def _cache_of(self, names: tuple[str, ...]) -> dict | None:
        # Stacks and factors under dropout are made anew each time; their versions say nothing about the parameters.
        plain = self.cache is not None and len(names) == 1 and not (self.training and self.module_dropout[names[0]])
        return self.cache.setdefault(names[0], {}) if plain else None

    def _base_is_plain(self) -> bool:
        """True where the base layer is just a matrix product that may be fused with the adapters."""
        base = self.base_layer
        return (
            type(base) in (nn.Linear, Conv1D)
            and type(base.weight) in (nn.Parameter, Tensor)
            and "forward" not in base.__dict__  # accelerate's offloading replaces it
            and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks)
        )
