"""The adapted layer: a frozen linear layer with any number of Kronecker adapters on top."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils.quantization_utils import resolve_quantization_backend
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from cdka.adapter.config import CdkaConfig
from cdka.adapter.init import initialise
from cdka.adapter.mixing import BASE, Assignment
from cdka.adapter.ops import Group, adapted_linear, delta_weight
from cdka.adapter.stacked import can_stack, stacked_linear
from cdka.components import Components, scaling
from cdka.errors import CdkaError


def features(layer: nn.Module) -> tuple[int, int] | None:
    """(out_features, in_features) of a layer that can be adapted, None for any other module."""
    if isinstance(layer, BaseTunerLayer):
        layer = layer.get_base_layer()
    if isinstance(layer, Conv1D):
        return layer.nf, layer.nx
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if resolve_quantization_backend(layer) is not None:
        names = ("out_features", "in_features") if hasattr(layer, "in_features") else ("outfeatures", "infeatures")
        return tuple(getattr(layer, name) for name in names)
    return None


class CdkaLayer(BaseTunerLayer):
    """What every adapted layer has: factors, settings and state per adapter, keyed by the adapter's name.

    ``cdka_A[name]`` is (r, r1, in/r2), ``cdka_B[name]`` is (r, out/r1, r2).
    """

    adapter_layer_names: tuple[str, ...] = ("cdka_A", "cdka_B")
    other_param_names: tuple[str, ...] = ("components", "alpha", "scaling_rule", "scaling", "module_dropout")
    assignment: Assignment | None = None
    """Set on all layers of a model while a batch is shared between adapters."""
    cache: dict[str, dict] | None = None
    """Per adapter, its factors in the precision of the computation; None outside of ``cached_factors``."""

    def __init__(self, base_layer: nn.Module, **kwargs: Any) -> None:
        self.base_layer = base_layer
        self.cdka_A = nn.ParameterDict()
        self.cdka_B = nn.ParameterDict()
        self.components: dict[str, Components] = {}
        self.alpha: dict[str, float] = {}
        self.scaling_rule: dict[str, str] = {}
        self.scaling: dict[str, float] = {}
        self.module_dropout: dict[str, float] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.cast_input_dtype_enabled = True
        self.quantization_backend = resolve_quantization_backend(self.get_base_layer(), **kwargs)
        size = features(base_layer)
        if size is None:
            raise CdkaError(f"CDKA adapts linear layers: got a {type(base_layer).__name__}.")
        self.out_features, self.in_features = size

    def update_layer(self, adapter_name: str, components: Components, alpha: float, config: CdkaConfig) -> None:
        """Adds an adapter, initialised as the config says, on the device of the base layer."""
        A_shape, B_shape = components.shapes(self.out_features, self.in_features)
        self.components[adapter_name] = components
        self.alpha[adapter_name] = alpha
        self.scaling_rule[adapter_name] = config.scaling_rule
        self.scaling[adapter_name] = self._initial_scaling(adapter_name)
        self.module_dropout[adapter_name] = config.module_dropout
        A, B = nn.Parameter(torch.empty(A_shape)), nn.Parameter(torch.empty(B_shape))
        self.cdka_A[adapter_name], self.cdka_B[adapter_name] = A, B
        if self.cache is not None:
            self.cache.pop(adapter_name, None)
        if self.cdka_A[adapter_name].device.type != "meta":
            initialise(A, B, config.init_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _initial_scaling(self, adapter_name: str) -> float:
        c = self.components[adapter_name]
        return scaling(self.alpha[adapter_name], c.r2, c.r, self.scaling_rule[adapter_name])

    def set_scale(self, adapter: str, scale: float) -> None:
        """Sets the adapter's scaling to its initial value times ``scale``."""
        if adapter in self.scaling:
            self.scaling[adapter] = scale * self._initial_scaling(adapter)

    def scale_layer(self, scale: float) -> None:
        """Multiplies the scaling of the active adapters by ``scale``."""
        for adapter in self._present(self.active_adapters):
            self.scaling[adapter] *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divides the scaling of the active adapters by ``scale``; None restores their initial scaling."""
        for adapter in self._present(self.active_adapters):
            self.scaling[adapter] = self._initial_scaling(adapter) if scale is None else self.scaling[adapter] / scale

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """True: delta W is added to the weight. ``export_lora`` converts without approximation."""
        return True

    def _present(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self.cdka_A]

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The matrix that the adapter adds to the base weight, in the layout of that weight, for inspection."""
        A, B = self.cdka_A[adapter].detach(), self.cdka_B[adapter].detach()
        exact = torch.float64 if A.dtype == torch.float64 else torch.float32
        delta = delta_weight(A.to(exact), B.to(exact), self.scaling[adapter])
        return delta.T if isinstance(self.get_base_layer(), Conv1D) else delta

    def merged_weight(self, adapters: list[str]) -> Tensor:
        """The base weight with these adapters added, a new tensor in the precision of the base weight."""
        weight = self._readable_base_weight()
        total = weight.clone()
        for adapter in adapters:
            total += self.get_delta_weight(adapter).to(weight.device, weight.dtype)
        return total

    def _readable_base_weight(self) -> Tensor:
        backend = self.quantization_backend
        if backend is not None and not backend.supports_merge:
            raise CdkaError(
                f"an adapter can only be merged into weights that can be written: got {backend.backend_name} layers. "
                "Serve the adapter unmerged, or merge it into the unquantised base model."
            )
        state = getattr(getattr(self.get_base_layer(), "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):  # PEFT would read the rearranged bytes as if they were not
            raise CdkaError(
                "a 4-bit layer that has run on a CPU holds its weights rearranged, and they cannot be read back: got "
                "packing_format_for_cpu. Merge before the first forward pass, or into the unquantised base model."
            )
        return self.get_base_weight()

    def check_mergeable(self, adapter_names: list[str] | None = None, where: str = "") -> None:
        """Raises CdkaError unless the base weight with these adapters (default: the active ones) is finite."""
        names = self.active_adapters if adapter_names is None else adapter_names
        adapters = [name for name in self._present(names) if name not in self.merged_adapters]
        if adapters and not torch.isfinite(self.merged_weight(adapters)).all():
            place = f" in {where!r}" if where else ""
            raise CdkaError(
                f"safe_merge needs finite merged weights: got NaN or infinity from {', '.join(map(repr, adapters))}"
                f"{place}. No base weight was changed; check how the adapter was trained."
            )

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds the adapters (default: the active ones) to the base weight.

        With ``safe_merge`` the sum is checked first: CdkaError, and nothing changed, if it is not finite.
        """
        if safe_merge:
            self.check_mergeable(adapter_names)
        adapters = self._present(check_adapters_to_merge(self, adapter_names))
        if adapters:
            self.set_base_weight(self.merged_weight(adapters))
            self.merged_adapters.extend(adapters)

    def unmerge(self) -> None:
        """Takes all merged adapters out of the base weight again, up to rounding in its precision."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        weight = self._readable_base_weight().clone()
        for adapter in reversed(self.merged_adapters):
            if adapter in self.cdka_A:
                weight -= self.get_delta_weight(adapter).to(weight.device, weight.dtype)
        self.set_base_weight(weight)
        self.merged_adapters.clear()


class Linear(nn.Module, CdkaLayer):
    """A linear layer (``nn.Linear``, transformers' ``Conv1D``, or a quantised one) with Kronecker adapters."""

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        components: Components,
        alpha: float,
        config: CdkaConfig,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        CdkaLayer.__init__(self, base_layer, **kwargs)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, components, alpha, config)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus that of the active adapters, or of those that the batch is assigned to."""
        names = kwargs.pop("adapter_names", None)
        assignment = self.assignment if names is None else Assignment.by_sample(names)
        if self.disable_adapters:
            if self.merged:
                self.unmerge()
            return self.base_layer(x, *args, **kwargs)
        if assignment is not None and self.merged:
            raise CdkaError(
                "a batch cannot be shared between adapters while some are merged: "
                f"got merged {', '.join(self.merged_adapters)}. Call unmerge_adapter first."
            )
        if self.merged:
            return self.base_layer(x, *args, **kwargs)
        if assignment is None:
            rows = x.numel() // self.in_features
            plan = [((name,), 0, rows) for name in self._present(self.active_adapters)]
            return self._adapted(x, plan, args, kwargs)
        assignment.check(len(x), f"a layer of {self.in_features} x {self.out_features} features")
        if assignment.order is None:
            return self._adapted(x, self._plan(x, assignment), args, kwargs)
        order = torch.tensor(assignment.order, device=x.device)
        y = self._adapted(x[order], self._plan(x, assignment), args, kwargs)
        return y[torch.argsort(order)]

    def _plan(self, x: Tensor, assignment: Assignment) -> list[tuple[tuple[str, ...], int, int]]:
        """(adapters, first row, row after the last) per group; adapters of one shape side by side share a group."""
        unit = x.numel() // self.in_features // assignment.units
        plan: list[tuple[tuple[str, ...], int, int]] = []
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

    def _adapted(self, x: Tensor, plan: list[tuple[tuple[str, ...], int, int]], args: tuple, kwargs: dict) -> Tensor:
        if not plan:
            return self.base_layer(x, *args, **kwargs)
        groups = [
            Group(start, stop, self.scaling[names[0]], cache=self._cache_of(names)) for names, start, stop in plan
        ]
        factors = [self._factor(part, names) for names, _, _ in plan for part in ("A", "B")]
        if args or kwargs or not self._base_is_plain():
            base = self.base_layer(x, *args, **kwargs)
            rows = x.reshape(-1, self.in_features).to(base.dtype)
            y = adapted_linear(rows, None, None, base.reshape(-1, self.out_features), groups, factors)
            return y.view(base.shape)
        weight, bias = self.base_layer.weight, self.base_layer.bias
        if isinstance(self.base_layer, Conv1D):
            weight = weight.T
        if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        rows = x.reshape(-1, self.in_features)
        if can_stack(rows, weight, groups, factors):
            y = stacked_linear(rows, weight, bias, groups, factors)
        else:
            y = adapted_linear(rows, weight, bias, None, groups, factors)
        return y.view(*x.shape[:-1], self.out_features)

    def _factor(self, part: str, names: tuple[str, ...]) -> Tensor:
        stored = self.cdka_A if part == "A" else self.cdka_B
        factors = [stored[name] for name in names]
        if part == "B" and self.training and any(self.module_dropout[name] for name in names):
            factors = [
                B * (torch.rand((), device=B.device) >= self.module_dropout[name])
                for B, name in zip(factors, names, strict=True)
            ]
        return factors[0] if len(factors) == 1 else torch.stack(factors)

    def _cache_of(self, names: tuple[str, ...]) -> dict | None:
        # Stacks and factors under dropout are made anew each time; their versions say nothing about the parameters.
        plain = self.cache is not None and len(names) == 1 and not (self.training and self.module_dropout[names[0]])
        return self.cache.setdefault(names[0], {}) if plain else None

    def _base_is_plain(self) -> bool:
        """Whether the base layer is just a matrix product that may be fused with the adapters."""
        base = self.base_layer
        return (
            type(base) in (nn.Linear, Conv1D)
            and type(base.weight) in (nn.Parameter, Tensor)
            and "forward" not in base.__dict__  # accelerate's offloading replaces it
            and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks)
        )

    def __repr__(self) -> str:
        return "cdka." + super().__repr__()
