"""``init_weights="gradient"``: A starts along the leading directions of the loss's own gradient (ours)."""

from __future__ import annotations

import statistics

import torch

from cdka.adapter import initialise_from_gradient, weight_gradients
from cdka.train.data.objectives import Objective
from cdka.train.data.task_data import Split, TextSplit
from cdka.train.forward import forward, routing
from cdka.train.member import Member


def start_from_gradient(
    model: torch.nn.Module, member: Member, train: Split | TextSplit, objective: Objective, device: torch.device
) -> str:
    """Initialises the member's adapter from the gradient on one batch of training data; returns what was reached.

    The batch depends on the run's seed and leaves the order of the data in training as it was. Gradients of all
    adapted weights are held at one time.
    """
    generator = torch.Generator().manual_seed(member.spec.seed)
    batch = train.take(torch.randperm(len(train), generator=generator)[: member.spec.batch_size])

    def loss() -> torch.Tensor:
        (output,) = forward(model, [member], [batch], device, objective)
        return output.loss / max(1, objective.count(batch.labels))

    with routing(model, [member]):
        gradients = weight_gradients(model, loss)
    reached = initialise_from_gradient(model, gradients, member.adapter)
    return (
        f"started from the gradient on {len(batch)} samples: mean alignment of the first step with full fine-tuning "
        f"{statistics.mean(reached.values()):.2f} on that batch"
    )
