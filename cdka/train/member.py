"""One run inside a pack: its data order, optimizer, schedule, metrics and the state to resume from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cdka.runs.spec import RunSpec
from cdka.train import distributed
from cdka.train.data.splits import AnySplit, TextSplit

if TYPE_CHECKING:
    from cdka.train.evaluate import Evaluation


_FLAT_VALUES = 4_000_000
"""Above this many values the copy that one flat norm needs is no longer small."""


def data_order(num_examples: int, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Row numbers of batch after batch, without end: a fresh permutation each epoch, the order fixed by ``seed``.

    Batches run across epochs, so that each holds exactly ``batch_size`` rows.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(0, dtype=torch.long)
    while True:
        while len(rows) < batch_size:
            rows = torch.cat([rows, torch.randperm(num_examples, generator=generator)])
        yield rows[:batch_size]
        rows = rows[batch_size:]


GROUPED_BATCHES = 16
"""Batches of similar length are made of the rows of this many at a time: enough to be similar, and still mixed."""


def length_grouped(order: Iterator[torch.Tensor], lengths: torch.Tensor) -> Iterator[torch.Tensor]:
    """The same rows as ``order``, batch after batch, regrouped so that rows of a batch are of similar ``lengths``.

    The rows of ``GROUPED_BATCHES`` batches are sorted and cut anew; these batches then come in an order that is the
    same for every seed, so that the runs of a pack meet short and long batches together.
    """
    mixing = torch.Generator().manual_seed(0)
    while True:
        batches = [next(order) for _ in range(GROUPED_BATCHES)]
        rows = torch.cat(batches)
        rows = rows[torch.argsort(lengths[rows], stable=True)]
        for i in torch.randperm(len(batches), generator=mixing).tolist():
            yield rows[i * len(batches[0]) : (i + 1) * len(batches[0])]


def batch_order(spec: RunSpec, train: AnySplit) -> Iterator[torch.Tensor]:
    """Row numbers of the batches that a run trains on, in their order."""
    order = data_order(len(train), spec.batch_size, spec.seed)
    return length_grouped(order, train.lengths) if spec.group_by_length and isinstance(train, TextSplit) else order


def learning_rate(spec: RunSpec, step: int) -> float:
    """The rate of update ``step`` (0-based): linear warm-up to ``spec.lr``, then cosine to zero, or constant."""
    warmup = math.ceil(spec.warmup_ratio * spec.steps)
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.lr
    progress = (step - warmup) / max(1, spec.steps - warmup)
    return spec.lr * 0.5 * (1.0 + math.cos(math.pi * progress))


def clip(parameters: Sequence[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Scales the gradients to a norm of at most ``limit``; returns the norm before, unread.

    As ``torch.nn.utils.clip_grad_norm_``, with one norm of all gradients laid end to end: an adapter has many small
    ones, and a norm of each takes longer than its update. In full fine-tuning the copy would be a second gradient.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if sum(g.numel() for g in gradients) > _FLAT_VALUES or len({(g.device, g.dtype) for g in gradients}) != 1:
        return torch.nn.utils.clip_grad_norm_(parameters, limit)
    norm = torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in gradients]))
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


@dataclass
class Member:
    """One run of a pack while it trains.

    ``tokens`` is what it has read so far, None where there are none to count, ``first_tokens`` what earlier attempts
    had read. ``last_good`` are the parameters of the last evaluation, ``best_good`` those of the best one, where a run
    with patience may have to return to them.
    """

    index: int
    spec: RunSpec
    directory: Path
    adapter: str
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    order: Iterator[torch.Tensor]
    step: int = 0
    tokens: int | None = None
    best_quality: float | None = None
    best_accuracy: float | None = None
    best_step: int | None = None
    looks_since_best: int = 0
    last_train_loss: float | None = None
    last_good: dict[str, torch.Tensor] = field(default_factory=dict)
    last_good_step: int = 0
    best_good: dict[str, torch.Tensor] = field(default_factory=dict)
    retained_before: dict[str, float] = field(default_factory=dict)
    first_tokens: int = 0
    last_evaluation: Evaluation | None = None
    stopped: bool = False
    keep_requested: bool = False
    out_of_patience: bool = False

    @property
    def improved(self) -> bool:
        """True where the last evaluation is the best so far."""
        return self.best_step == self.step and self.looks_since_best == 0

    @classmethod
    def start(
        cls, index: int, spec: RunSpec, directory: Path, adapter: str, parameters: dict, train: AnySplit
    ) -> Member:
        """A member before its first step, on parameters that are already initialised."""
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=spec.lr, weight_decay=spec.weight_decay, fused=_fused(parameters)
        )
        return cls(index, spec, directory, adapter, parameters, optimizer, batch_order(spec, train))

    def update(self) -> torch.Tensor:
        """Clip, step and clear the gradients; returns the gradient norm before clipping, unread."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.spec, self.step)
        distributed.all_reduce(p.grad for p in self.parameters.values() if p.grad is not None)
        norm = clip(list(self.parameters.values()), self.spec.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return norm

    def remember(self, result: Evaluation) -> None:
        """Note an evaluation: the best so far, and the parameters to fall back on if the run diverges later."""
        self.looks_since_best += 1
        if self.best_quality is None or result.quality > self.best_quality:
            self.best_quality, self.best_accuracy, self.best_step = result.quality, result.accuracy, self.step
            self.looks_since_best = 0
        self.last_evaluation = result
        self.last_good_step = self.step
        self.last_good = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}
        if self.spec.patience and self.improved:
            self.best_good = self.last_good

    def put_back(self, values: dict[str, torch.Tensor]) -> None:
        """Put the parameters of an earlier evaluation back."""
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)


def _fused(parameters: dict[str, torch.nn.Parameter]) -> bool:
    """The fused AdamW where all parameters allow it: a third of the time of the plain loop on a CPU."""
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters.values())
