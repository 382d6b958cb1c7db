"""From logits to loss, and from logits to answers that can be counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

IGNORED = -100
"""The label of positions that are neither trained on nor judged."""


@dataclass(frozen=True)
class Answers:
    """One entry per example: what was right, and what the model said (None: it could not be parsed)."""

    label: list[Any]
    predicted: list[Any]

    @property
    def accuracy(self) -> float:
        """The share of examples whose prediction equals the label; an unparsed one counts as wrong."""
        return sum(p is not None and p == w for p, w in zip(self.predicted, self.label, strict=True)) / len(self.label)


class Objective(Protocol):
    """What a task asks of the logits."""

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The summed loss over all judged positions, a scalar in float32 (float64 stays)."""

    def count(self, labels: torch.Tensor) -> int:
        """How many positions ``loss`` sums over."""

    def answers(self, logits: torch.Tensor, labels: torch.Tensor) -> Answers:
        """What the model answers to each example of the batch."""


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


class Classification:
    """One label per example: logits (n, labels), labels (n,)."""

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropy."""
        return F.cross_entropy(_at_least_float32(logits), labels, reduction="sum")

    def count(self, labels: torch.Tensor) -> int:
        """The number of examples."""
        return len(labels)

    def answers(self, logits: torch.Tensor, labels: torch.Tensor) -> Answers:
        """The most probable label of each example."""
        return Answers(labels.tolist(), logits.argmax(-1).tolist())
