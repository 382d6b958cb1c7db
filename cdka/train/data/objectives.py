"""From logits to loss, and from logits or written text to answers that can be counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F

from cdka.tasks.scores import Answers, Judge, Scores

IGNORED = -100
"""The label of positions that are neither trained on nor judged."""


@dataclass(frozen=True)
class Generation:
    """Settings of generation: greedy, up to ``max_new_tokens``, ended by one of ``eos_ids``.

    ``judge(texts, references)`` compares the generated texts with the right answers.
    """

    max_new_tokens: int
    eos_ids: tuple[int, ...]
    pad_id: int
    decode: Callable[[Sequence[Sequence[int]]], list[str]]
    judge: Judge


class Objective(Protocol):
    """The objective of a task on the logits."""

    @property
    def generation(self) -> Generation | None:
        """None: ``answers`` reads the logits. Else the answers are read in text that the model generates."""

    @property
    def scores(self) -> Scores | None:
        """Further metrics, from the answers."""

    has_accuracy: ClassVar[bool]
    """False where answers are never just right or wrong: a regression."""

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The summed loss over all judged positions, a scalar in float32 (float64 stays)."""

    def count(self, labels: torch.Tensor) -> int:
        """The number of positions that ``loss`` sums over."""


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy of logits (..., classes) against targets (...), IGNORED ones left out."""
    flat = _at_least_float32(logits).reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED, reduction="sum")


@dataclass(frozen=True)
class Classification:
    """One label per example: logits (n, labels), labels (n,)."""

    scores: Scores | None = None
    generation: None = field(default=None, init=False)
    has_accuracy: ClassVar[bool] = True

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropy."""
        return token_loss(logits, labels)

    def count(self, labels: torch.Tensor) -> int:
        """The number of examples."""
        return len(labels)

    def answers(self, logits: torch.Tensor, labels: torch.Tensor) -> Answers:
        """The most probable label of each example."""
        return Answers(labels.tolist(), logits.argmax(-1).tolist())


@dataclass(frozen=True)
class Regression:
    """One number per example: logits (n, 1), labels (n,). The model learns numbers of mean 0 and spread 1.

    ``mean`` and ``spread`` (standard deviation) are those of the training numbers; answers are in the data's unit, the
    loss is in units of the spread.
    """

    mean: float
    spread: float
    scores: Scores | None = None
    generation: None = field(default=None, init=False)
    has_accuracy: ClassVar[bool] = False

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed squared error of the standardised numbers."""
        outputs = _at_least_float32(logits)[:, 0]
        return F.mse_loss(outputs, ((labels - self.mean) / self.spread).to(outputs.dtype), reduction="sum")

    def count(self, labels: torch.Tensor) -> int:
        """The number of examples."""
        return len(labels)

    def answers(self, logits: torch.Tensor, labels: torch.Tensor) -> Answers:
        """The predicted number of each example."""
        return Answers(labels.tolist(), (logits[:, 0].double() * self.spread + self.mean).tolist())


@dataclass(frozen=True)
class NextToken:
    """The next token at every judged position: logits (n, length, vocabulary), labels (n, length).

    ``ahead`` is 1 for a causal model, whose logits at one position speak of the label at the next, and 0 for an
    encoder-decoder, whose decoder input is already moved by one. Without ``generation``, as for plain text, the
    accuracy is that of the next token.
    """

    ahead: int
    generation: Generation | None = None
    scores: Scores | None = None
    has_accuracy: ClassVar[bool] = True

    def aligned(self, values: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``values`` (n, length, anything) and labels, cut so that each position faces the token it speaks of."""
        length = labels.shape[1]
        return values[:, : length - self.ahead], labels[:, self.ahead :]

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropy over the judged tokens."""
        return token_loss(*self.aligned(logits, labels))

    def count(self, labels: torch.Tensor) -> int:
        """The number of judged tokens."""
        return int((labels[:, self.ahead :] != IGNORED).sum())
