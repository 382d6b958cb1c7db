"""One forward pass of a pack: each lane's batch through the shared base with that lane's adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from cdka.finetune.lanes import Lane
from cdka.tasks.data import Split


def forward(
    model: torch.nn.Module, lanes: Sequence[Lane], batches: Sequence[Split], device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(logits, labels) of each lane, on ``device``. The batches must be of equal size."""
    inputs = {
        name: torch.cat([batch.inputs[name] for batch in batches]).to(device, non_blocking=True)
        for name in batches[0].inputs
    }
    with _precision(model, lanes[0], device), _routing(model, lanes):
        logits = model(**inputs).logits
    size = len(batches[0])
    return [
        (logits[i * size : (i + 1) * size], batch.labels.to(device, non_blocking=True))
        for i, batch in enumerate(batches)
    ]


def _precision(model: torch.nn.Module, lane: Lane, device: torch.device):
    """Full fine-tuning keeps float32 weights and computes in bfloat16 on a GPU; adapters look after themselves."""
    if lane.spec.method == "full" and lane.spec.dtype == "auto" and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return nullcontext()


def _routing(model: torch.nn.Module, lanes: Sequence[Lane]):
    """Which rows go through which adapter: K equal slices in a pack, everything through the one adapter else."""
    if lanes[0].adapter == "default":
        return nullcontext()
    from cdka.adapter import packed

    return packed(model, [lane.adapter for lane in lanes])
