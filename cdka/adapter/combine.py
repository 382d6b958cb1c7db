"""The exact weighted sum of adapters, by joining their components side by side."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import torch

from cdka.adapter.layer import CdkaLayer
from cdka.components import Components, scaling
from cdka.errors import CdkaError, unknown

if TYPE_CHECKING:
    from cdka.adapter.model import CdkaModel


def concatenate(model: CdkaModel, adapters: list[str], weights: list[float], new_name: str, how: str) -> None:
    """Adds to ``model`` the adapter ``sum_k weights[k] * delta W_k``; see ``CdkaModel.add_weighted_adapter``."""
    _check(model, adapters, weights, new_name, how)
    layers = {name: m for name, m in model.model.named_modules() if isinstance(m, CdkaLayer)}
    present = {name: [k for k in adapters if k in layer.cdka_A] for name, layer in layers.items()}
    layers = {name: layer for name, layer in layers.items() if present[name]}
    joined = _joined_components(layers, present)
    first = model.peft_config[adapters[0]]
    default = next(iter(joined.values()))
    model.peft_config[new_name] = type(first)(
        **{
            **first.to_dict(),
            **dict(zip(("r1", "r2", "r"), default.as_tuple(), strict=True)),
            "target_modules": list(joined),
            "exclude_modules": None,
            "layers_to_transform": None,
            "layers_pattern": None,
            "modules_to_save": None,
            "trainable_token_indices": None,
            "component_pattern": {f"^{re.escape(n)}": c for n, c in joined.items() if c != default},
            "alpha_pattern": {},
            "bias": "none",
            "init_weights": "kaiming",
        }
    )
    try:
        model.inject_adapter(model.model, new_name)
    except Exception:
        del model.peft_config[new_name]
        raise
    for name, layer in layers.items():
        _fill(layer, present[name], dict(zip(adapters, weights, strict=True)), new_name)


def _check(model: CdkaModel, adapters: list[str], weights: list[float], new_name: str, how: str) -> None:
    if how != "cat":
        raise CdkaError(
            f"CDKA adapters are combined exactly or not at all: got combination_type={how!r}. delta W is not linear "
            "in (A, B); use combination_type='cat', or export_lora and combine the LoRA adapters."
        )
    for name in adapters:
        if name not in model.peft_config:
            raise unknown("adapter", name, model.peft_config)
    if new_name in model.peft_config:
        raise CdkaError(f"the combination needs a new name: got {new_name!r}, which exists. Choose another.")
    if len(adapters) != len(weights) or not adapters or len(set(adapters)) != len(adapters):
        raise CdkaError(f"every adapter needs one weight, once: got adapters={adapters!r}, weights={weights!r}.")
    if not all(math.isfinite(w) for w in weights):
        raise CdkaError(f"weights must be finite numbers: got {weights!r}.")


def _joined_components(layers: dict[str, CdkaLayer], present: dict[str, list[str]]) -> dict[str, Components]:
    joined, problems = {}, []
    for name, layer in layers.items():
        kinds = [layer.components[adapter] for adapter in present[name]]
        if len({(c.r1, c.r2) for c in kinds}) > 1:
            listed = " and ".join(f"{c} ({adapter!r})" for c, adapter in zip(kinds, present[name], strict=True))
            problems.append(f"{name!r} has {listed}")
        joined[name] = Components(kinds[0].r1, kinds[0].r2, sum(c.r for c in kinds))
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CdkaError(
            f"adapters can be joined where r1 and r2 agree: {'; '.join(problems[:3])}{more}. "
            "Merge them one after the other, or export_lora each and combine the LoRA adapters."
        )
    return joined


@torch.no_grad()
def _fill(layer: CdkaLayer, adapters: list[str], weights: dict[str, float], new_name: str) -> None:
    # The new scaling divides by sqrt(r) of the joined adapter, so every B carries its own scaling over.
    own = layer.scaling[new_name] if layer.scaling[new_name] else scaling(1.0, 1, 1)
    layer.cdka_A[new_name].copy_(torch.cat([layer.cdka_A[k] for k in adapters]))
    parts = [layer.cdka_B[k] * (weights[k] * layer.scaling[k] / own) for k in adapters]
    layer.cdka_B[new_name].copy_(torch.cat(parts))
