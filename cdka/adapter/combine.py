"""The exact weighted sum of adapters: their components side by side, at common divisors of r1 and r2."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from cdka.adapter.config import CdkaConfig
from cdka.adapter.layer import CdkaLayer
from cdka.components import scaling
from cdka.errors import CdkaError, unknown
from cdka.theory.factors import Factors, added


def check_combination(known: Sequence[str], adapters: list[str], weights: list[float], new_name: str, how: str) -> None:
    """Raises CdkaError for a combination that is not an exact sum of adapters that there are."""
    if how != "cat":
        raise CdkaError(
            f"CDKA adapters are combined exactly or not at all: got combination_type={how!r}. delta W is not linear "
            "in (A, B); use combination_type='cat', or export_lora and combine the LoRA adapters."
        )
    for name in adapters:
        if name not in known:
            raise unknown("adapter", name, known)
    if new_name in known:
        raise CdkaError(f"the combination needs a new name: got {new_name!r}, which exists. Choose another.")
    if len(adapters) != len(weights) or not adapters or len(set(adapters)) != len(adapters):
        raise CdkaError(f"every adapter needs one weight, once: got adapters={adapters!r}, weights={weights!r}.")
    if not all(math.isfinite(w) for w in weights):
        raise CdkaError(f"weights must be finite numbers: got {weights!r}.")


def weighted_sums(layers: Mapping[str, CdkaLayer], weights: Mapping[str, float]) -> dict[str, Factors]:
    """``sum_k weights[k] * delta W_k`` of every layer that has one of the adapters, in float64."""
    sums = {}
    for name, layer in layers.items():
        total: Factors | None = None
        for adapter in (k for k in weights if k in layer.cdka_A):
            one = factors_of(layer, adapter, weights[adapter])
            total = one if total is None else added(total, one)
        if total is not None:
            sums[name] = total.compressed()
    return sums


def factors_of(layer: CdkaLayer, adapter: str, weight: float = 1.0) -> Factors:
    """The factors of one adapter on one layer, in float64 on the CPU, their scaling times ``weight``."""
    A, B = (stored[adapter].detach().double().cpu().numpy() for stored in (layer.cdka_A, layer.cdka_B))
    return Factors(A, B, layer.scaling[adapter] * weight)


def combined_config(first: CdkaConfig, sums: Mapping[str, Factors]) -> CdkaConfig:
    """The settings of an adapter with these factors: those of ``first``, with components module by module."""
    components = {name: total.components for name, total in sums.items()}
    default = next(iter(components.values()))
    return type(first)(
        **{
            **first.to_dict(),
            **dict(zip(("r1", "r2", "r"), default.as_tuple(), strict=True)),
            "target_modules": list(sums),
            "exclude_modules": None,
            "layers_to_transform": None,
            "layers_pattern": None,
            "modules_to_save": None,
            "trainable_token_indices": None,
            "component_pattern": {f"^{re.escape(n)}": c.as_tuple() for n, c in components.items() if c != default},
            "rank_pattern": {},
            "alpha_pattern": {},
            "indivisible": "error",
            "bias": "none",
            "init_weights": "kaiming",
        }
    )


@torch.no_grad()
def fill(layers: Mapping[str, CdkaLayer], sums: Mapping[str, Factors], adapter: str) -> None:
    """Writes the factors into the adapter of that name, B carrying what its scaling does not."""
    for name, total in sums.items():
        layer = layers[name]
        own = layer.scaling[adapter] or scaling(1.0, 1, 1)
        for stored, values in ((layer.cdka_A, total.A), (layer.cdka_B, total.B * (total.scaling / own))):
            stored[adapter].copy_(torch.from_numpy(np.ascontiguousarray(values)))
