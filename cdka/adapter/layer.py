"""``CdkaLayer``: what every adapted layer has, whatever its base: factors, settings, and merging."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils.quantization_utils import resolve_quantization_backend
from torch import Tensor, nn

from cdka.adapter.config import CdkaConfig
from cdka.adapter.features import as_matrix, as_weight, features
from cdka.adapter.init import initialise
from cdka.adapter.mixing import Assignment
from cdka.adapter.ops import delta_weight
from cdka.components import Components, scaling
from cdka.errors import CdkaError


class CdkaLayer(BaseTunerLayer):
    """Factors, settings and state per adapter, keyed by the adapter's name.

    ``cdka_A[name]`` is (r, r1, in/r2), ``cdka_B[name]`` is (r, out/r1, r2).

    >>> from peft import get_peft_model
    >>> from torch import nn
    >>> model = get_peft_model(nn.Sequential(nn.Linear(64, 32)), cdka.CdkaConfig(r1=2, r2=8, r=4, target_modules=["0"]))
    >>> (layer,) = (module for module in model.modules() if isinstance(module, cdka.CdkaLayer))
    >>> layer.cdka_A["default"].shape, layer.cdka_B["default"].shape
    (torch.Size([4, 2, 8]), torch.Size([4, 16, 8]))
    """

    adapter_layer_names: tuple[str, ...] = ("cdka_A", "cdka_B")
    other_param_names: tuple[str, ...] = ("components", "r", "alpha", "scaling_rule", "scaling", "module_dropout")
    assignment: Assignment | None = None
    """Set on all layers of a model while a batch is shared between adapters."""
    cache: dict[str, dict] | None = None
    """Per adapter, its factors in the precision of the computation; None outside of ``cached_factors``."""

    def __init__(self, base_layer: nn.Module, **kwargs: Any) -> None:
        self.base_layer = base_layer
        self.cdka_A = nn.ParameterDict()
        self.cdka_B = nn.ParameterDict()
        self.components: dict[str, Components] = {}
        self.r: dict[str, int] = {}
        self.alpha: dict[str, float] = {}
        self.scaling_rule: dict[str, str] = {}
        self.scaling: dict[str, float] = {}
        self.module_dropout: dict[str, float] = {}
        self.awaiting_gradient: set[str] = set()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.cast_input_dtype_enabled = True
        self.quantization_backend = resolve_quantization_backend(self.get_base_layer(), **kwargs)
        size = features(base_layer)
        if size is None:
            raise CdkaError(f"CDKA adapts linear layers: got a {type(base_layer).__name__}.")
        self.out_features, self.in_features = size
        self.register_load_state_dict_pre_hook(_note_loaded)

    def update_layer(self, adapter_name: str, components: Components, alpha: float, config: CdkaConfig) -> None:
        """Adds an adapter, initialised as the config says, on the device of the base layer."""
        A_shape, B_shape = components.shapes(self.out_features, self.in_features)
        self.components[adapter_name] = components
        self.r[adapter_name] = components.r
        self.alpha[adapter_name] = alpha
        self.scaling_rule[adapter_name] = config.scaling_rule
        self.scaling[adapter_name] = self._initial_scaling(adapter_name)
        self.module_dropout[adapter_name] = config.module_dropout
        A, B = nn.Parameter(torch.empty(A_shape)), nn.Parameter(torch.empty(B_shape))
        self.cdka_A[adapter_name], self.cdka_B[adapter_name] = A, B
        if self.cache is not None:
            self.cache.pop(adapter_name, None)
        if self.cdka_A[adapter_name].device.type != "meta":
            initialise(A, B, config.start)
        if config.start == "gradient" and not config.inference_mode:
            self.awaiting_gradient.add(adapter_name)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def copy_factors(self, source: str, adapter_name: str) -> None:
        """Gives an adapter the values of another of the same components."""
        for factors in (self.cdka_A, self.cdka_B):
            factors[adapter_name].copy_(factors[source])

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
        """The matrix that the adapter adds to the base weight, in the layout of that weight; differentiable."""
        if self._factors_are_offloaded():
            with self._factors_on_device():
                return self.get_delta_weight(adapter).detach()
        A, B = self.cdka_A[adapter], self.cdka_B[adapter]
        exact = torch.float64 if A.dtype == torch.float64 else torch.float32
        delta = delta_weight(A.to(exact), B.to(exact), self.scaling[adapter])
        return as_weight(delta, self.get_base_layer())

    @torch.no_grad()
    def merged_weight(self, adapters: list[str]) -> Tensor:
        """The base weight with these adapters added, a new tensor in the precision of the base weight."""
        weight = self._readable_base_weight()
        total = weight.clone()
        for adapter in adapters:
            total += self.get_delta_weight(adapter).to(weight.device, weight.dtype)
        return total

    def _readable_base_weight(self) -> Tensor:
        base = self.get_base_layer()
        backend = self.quantization_backend
        if backend is not None and not backend.supports_merge:
            raise CdkaError(
                f"an adapter can only be merged into weights that can be written: got {backend.backend_name} layers. "
                "Serve the adapter unmerged, or merge it into the unquantised base model."
            )
        state = getattr(getattr(base, "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):  # PEFT would read the rearranged bytes as if they were not
            raise CdkaError(
                "a 4-bit layer that has run on a CPU holds its weights rearranged, and they cannot be read back: got "
                "packing_format_for_cpu. Merge before the first forward pass, or into the unquantised base model."
            )
        if backend is None and "weight" not in base._parameters:
            raise CdkaError(
                "an adapter can only be merged into a weight that is stored: got a layer that computes its weight from "
                "others, as weight normalisation does, so that the sum would be lost. Remove the parametrisation first "
                "(torch.nn.utils.parametrize.remove_parametrizations, or remove_weight_norm)."
            )
        return self.get_base_weight()

    def check_mergeable(self, adapter_names: list[str] | None = None, where: str = "") -> None:
        """Raises CdkaError unless the base weight with these adapters (default: the active ones) is finite."""
        names = self.active_adapters if adapter_names is None else adapter_names
        adapters = [name for name in self._present(names) if name not in self.merged_adapters]
        if adapters and not torch.isfinite(self.merged_weight(adapters)).all():
            place = f" in {where!r}" if where else ""
            raise CdkaError(  # the first two sentences are those of PEFT's tuners, which programs look for
                f"NaNs detected in the merged weights. The adapter {', '.join(adapters)} seems to be broken: got NaN "
                f"or infinity{place}. No base weight was changed; check how the adapter was trained."
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

    @torch.no_grad()
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

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """A gradient in the layout of the base weight as the matrix (out, in) that the factors belong to."""
        return as_matrix(gradient, self.get_base_layer())

    def _assigned(self, kwargs: dict[str, Any]) -> Assignment | None:
        """The split of this batch between adapters; None where the active ones serve it. Takes out ``adapter_names``.

        Raises CdkaError where adapters are merged meanwhile, or where an initialisation was left unfinished.
        """
        names = kwargs.pop("adapter_names", None) if kwargs else None
        assignment = self.assignment if names is None else Assignment.by_sample(names)
        if assignment is not None and self.merged:
            raise CdkaError(
                "Cannot pass `adapter_names` when there are merged adapters, please call `unmerge_adapter` first: "
                f"got merged {', '.join(self.merged_adapters)}."
            )
        if self.awaiting_gradient and self.training:
            self._check_initialised()
        return assignment

    def _check_initialised(self) -> None:
        waiting = self.awaiting_gradient & set(self._present(self.active_adapters))
        # A forward pass that collects the gradient itself has the base weight require one.
        if waiting and torch.is_grad_enabled() and not self.get_base_layer().weight.requires_grad:
            raise CdkaError(
                f"init_weights='gradient' is followed by initialise_from_gradient before training: got none for "
                f"{', '.join(map(repr, sorted(waiting)))}. Call cdka.adapter.initialise_from_gradient(model, "
                "weight_gradients(model, loss)), or use init_weights=True."
            )

    def _untouched(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output, for adapters that are disabled (and so taken out of its weight) or merged."""
        if self._disable_adapters and self.merged:
            self.unmerge()
        return self.base_layer(x, *args, **kwargs)

    def _factors_are_offloaded(self) -> bool:
        """True where accelerate has moved the factors away from the layer's device, and nothing brings them back.

        Its hooks bring parameters back before the forward of the module that holds them. A ParameterDict has none.
        """
        return "_hf_hook" in self._modules["cdka_A"].__dict__ and any(
            p.device.type == "meta" for p in self.cdka_A.values()
        )

    @contextmanager
    def _factors_on_device(self) -> Iterator[None]:
        """Within it, offloaded factors are where the layer computes."""
        holders = (self.cdka_A, self.cdka_B)
        try:
            for holder in holders:
                holder._hf_hook.pre_forward(holder)
            yield
        finally:
            for holder in holders:
                holder._hf_hook.post_forward(holder, torch.empty(0))

    def _factor(self, part: str, names: tuple[str, ...]) -> Tensor:
        stored = self.cdka_A if part == "A" else self.cdka_B
        if part == "A" or not self.training:
            factors = [stored[name] for name in names]
        else:
            factors = [self._dropped(stored[name], self.module_dropout[name]) for name in names]
        return factors[0] if len(factors) == 1 else torch.stack(factors)

    @staticmethod
    def _dropped(B: Tensor, probability: float) -> Tensor:
        return B * (torch.rand((), device=B.device) >= probability) if probability else B


class AdaptedModule(nn.Module, CdkaLayer):
    """A module that stands in the place of its base layer, with a first adapter."""

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

    def __repr__(self) -> str:
        return "cdka." + super().__repr__()


def _note_loaded(layer: CdkaLayer, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """An adapter that is loaded has its factors: its initialisation is of no more concern."""
    layer.awaiting_gradient -= {name for name in layer.awaiting_gradient if f"{prefix}cdka_A.{name}" in state}
