"""Judge runs on a split: loss, accuracy and every answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cdka.finetune.forward import forward
from cdka.finetune.lanes import Lane
from cdka.tasks.data import Split
from cdka.tasks.objectives import Answers, Objective


@dataclass(frozen=True)
class Evaluation:
    """What one run scored on one split. ``loss`` is per judged position; ``unparsed`` answers count as wrong."""

    accuracy: float
    loss: float
    examples: int
    unparsed: int
    answers: Answers


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, lanes: Sequence[Lane], split: Split, objective: Objective, device: torch.device
) -> list[Evaluation]:
    """One Evaluation per lane, all on the same examples, in the order of the split."""
    if not lanes:
        return []
    was_training = model.training
    model.eval()
    size = 2 * lanes[0].spec.batch_size
    loss = [torch.zeros((), dtype=torch.float64, device=device) for _ in lanes]
    label: list[list] = [[] for _ in lanes]
    predicted: list[list] = [[] for _ in lanes]
    count = 0
    for rows in torch.arange(len(split)).split(size):
        batch = split.take(rows)
        count += objective.count(batch.labels)
        for i, (logits, labels) in enumerate(forward(model, lanes, [batch] * len(lanes), device)):
            loss[i] += objective.loss(logits, labels).double()
            answers = objective.answers(logits, labels)
            label[i] += answers.label
            predicted[i] += answers.predicted
    model.train(was_training)
    results = []
    for i in range(len(lanes)):
        answers = Answers(label[i], predicted[i])
        unparsed = sum(p is None for p in predicted[i])
        results.append(Evaluation(answers.accuracy, loss[i].item() / max(1, count), len(split), unparsed, answers))
    return results
