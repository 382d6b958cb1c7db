"""The place of a live PEFT model in (r1, r2, r): CDKA, LoRA and LoKr modules alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from cdka.adapter.features import features
from cdka.adapter.layer import CdkaLayer
from cdka.components import Components
from cdka.errors import CdkaError


@dataclass(frozen=True)
class PlacedModule:
    """One adapted module of a model: its components, its parameters and its scaling."""

    path: str
    method: str
    components: Components
    out_features: int
    in_features: int
    num_params: int
    scaling: float

    @property
    def rank_bound(self) -> int:
        """The largest rank that its delta W can have."""
        return self.components.rank_bound(self.out_features, self.in_features)

    @property
    def alignment(self) -> float:
        """The predicted cosine between its first step and full fine-tuning's."""
        return self.components.alignment(self.in_features)


def placed_modules(model: nn.Module) -> tuple[str, list[PlacedModule]]:
    """(the active adapter, its modules in the model's order).

    LoRA of rank r is (1, 1, r); a LoKr module is the one product of its two factors, whatever rank these have. Raises
    CdkaError where the model has no adapter of these kinds.
    """
    found = []
    adapter = ""
    for path, module in model.named_modules():
        if not isinstance(module, CdkaLayer | LoraLayer | LoKrLayer):
            continue
        size = features(module)
        for name in module.active_adapters:
            placed = None if size is None else _placed(module, name, *size)
            if placed is not None:
                method, components, parts = placed
                count = sum(part.numel() for part in parts)
                found.append(PlacedModule(path, method, components, *size, count, float(module.scaling[name])))
                adapter = name
    if not found:
        raise CdkaError(
            f"a PEFT model with a CDKA, LoRA or LoKr adapter can be described: got a {type(model).__name__} without "
            "one. Make it with get_peft_model."
        )
    return adapter, found


def _placed(module: Any, name: str, out_features: int, in_features: int) -> tuple[str, Components, list[Any]] | None:
    """(method, components, parameters) of one adapter of a layer; None where the layer has not this adapter."""
    if isinstance(module, CdkaLayer):
        if name not in module.components:
            return None
        return "cdka", module.components[name], [module.cdka_A[name], module.cdka_B[name]]
    if isinstance(module, LoraLayer):
        if name not in module.r:
            return None
        pairs = (module.lora_A, module.lora_B, module.lora_embedding_A, module.lora_embedding_B)
        held = [part[name] for part in pairs if name in part]
        parts = [p for part in held for p in (part.parameters() if isinstance(part, nn.Module) else [part])]
        return "lora", Components(1, 1, int(module.r[name])), parts
    own = [getattr(module, key) for key in module.adapter_layer_names]
    parts = [part[name] for part in own if name in part]
    if not parts:
        return None
    left, right = module.lokr_w1, module.lokr_w1_a
    rows = left[name].shape[0] if name in left else right[name].shape[0]
    columns = left[name].shape[1] if name in left else module.lokr_w1_b[name].shape[1]
    return "lokr", Components(out_features // rows, columns, 1), parts
