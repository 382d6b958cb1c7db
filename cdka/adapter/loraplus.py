"""LoRA+ for Kronecker adapters: B learns faster than A (Hayou et al., 2024)."""

from __future__ import annotations

from typing import Any

from torch import nn

from cdka.errors import CdkaError


def loraplus_groups(model: nn.Module, lr: float, ratio: float, *, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for any PyTorch optimizer: every trainable B at ``lr * ratio``, all else at ``lr``.

    PEFT's own ``create_loraplus_optimizer`` knows B by the name ``lora_B`` and gives ours the rate of A: use these
    groups in its place. Biases and other vectors take the rate of B, and no weight decay, as they do there. Raises
    CdkaError for a model without a trainable Kronecker adapter, or a ratio that is not positive.
    """
    if not ratio > 0:
        raise CdkaError(f"the ratio of the rates of B and A must be positive: got {ratio!r}. LoRA+ suggests 16.")
    groups: dict[str, list[nn.Parameter]] = {"A": [], "B": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "B" if ".cdka_B." in name else "vectors" if parameter.dim() == 1 else "A"
            groups[kind].append(parameter)
    if not groups["B"]:
        raise CdkaError("LoRA+ is for trainable Kronecker adapters: this model has none. Add one with get_peft_model.")
    return [
        {"params": groups["A"], "lr": lr, "weight_decay": weight_decay},
        {"params": groups["B"], "lr": lr * ratio, "weight_decay": weight_decay},
        {"params": groups["vectors"], "lr": lr * ratio, "weight_decay": 0.0},
    ]
