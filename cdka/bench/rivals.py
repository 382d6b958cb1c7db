"""The layers that are compared: ours and PEFT's over one shared frozen base, at equal numbers of parameters."""

from __future__ import annotations

import copy

import torch
from peft import LoKrConfig, LoraConfig, PeftConfig, get_peft_model
from torch import nn

from cdka.adapter import CdkaConfig
from cdka.components import Components

LOKR_FACTOR = 8


def frozen(out_features: int, in_features: int, device: torch.device, dtype: torch.dtype) -> nn.Linear:
    """A frozen linear layer with a bias."""
    return nn.Linear(in_features, out_features, device=device, dtype=dtype).requires_grad_(False)


def num_trained(layer: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in layer.parameters() if p.requires_grad)


def configs(components: Components, out_features: int, in_features: int) -> dict[str, tuple[PeftConfig, bool]]:
    """Per name the configuration and PEFT's autocast_adapter_dtype.

    ``lora`` is PEFT's with its defaults, ``lora_low`` keeps the adapter in the precision of the base,
    ``lora_ours`` is (1, 1, rank) through our code, ``lokr`` PEFT's LoKr with a full 8 x 8 left factor.
    """
    budget = components.num_params(out_features, in_features)
    rank = max(1, round(budget / (out_features + in_features)))
    left = LOKR_FACTOR**2
    lokr_rank = max(1, round((budget - left) * LOKR_FACTOR / (out_features + in_features)))
    r1, r2, r = components.as_tuple()
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"])
    return {
        "cdka": (CdkaConfig(r1=r1, r2=r2, r=r, alpha=1.0, target_modules=["0"]), True),
        "lora": (lora, True),
        "lora_low": (copy.copy(lora), False),
        "lora_ours": (CdkaConfig(r1=1, r2=1, r=rank, alpha=1.0, target_modules=["0"]), True),
        "lokr": (LoKrConfig(r=lokr_rank, alpha=lokr_rank, decompose_factor=LOKR_FACTOR, target_modules=["0"]), True),
    }


def make(base: nn.Linear, components: Components) -> dict[str, nn.Module]:
    """The adapted layers by name, all over the same base weight."""
    made = {}
    for name, (config, upcast) in configs(components, base.out_features, base.in_features).items():
        model = get_peft_model(nn.Sequential(_twin(base)), config, autocast_adapter_dtype=upcast)
        made[name] = model.base_model.model[0]
    return made


def _twin(base: nn.Linear) -> nn.Linear:
    twin = nn.Linear(1, 1)
    twin.in_features, twin.out_features, twin.weight, twin.bias = (
        base.in_features,
        base.out_features,
        base.weight,
        base.bias,
    )
    return twin


def stack(size: int, components: Components, name: str, dtype: torch.dtype, depth: int = 4) -> nn.Module:
    """A network of ``depth`` square layers with SiLU between, all adapted by the rival of this name."""
    torch.manual_seed(0)
    blocks = [m for _ in range(depth) for m in (frozen(size, size, torch.device("cpu"), dtype), nn.SiLU())]
    config, upcast = configs(components, size, size)[name]
    config.target_modules = {str(2 * i) for i in range(depth)}
    return get_peft_model(nn.Sequential(*blocks), config, autocast_adapter_dtype=upcast).base_model.model
