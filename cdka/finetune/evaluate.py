"""Judge runs on a split: loss, accuracy and every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cdka.finetune.forward import forward
from cdka.finetune.generate import generate
from cdka.finetune.lanes import Lane
from cdka.tasks.data import AnySplit
from cdka.tasks.objectives import Answers, Objective


@dataclass(frozen=True)
class Evaluation:
    """What one run scored on one split. ``loss`` is per judged position; ``unparsed`` answers count as wrong.

    ``scores`` are the task's further metrics, by name.
    """

    accuracy: float
    loss: float
    examples: int
    unparsed: int
    answers: Answers
    scores: Mapping[str, float]


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, lanes: Sequence[Lane], split: AnySplit, objective: Objective, device: torch.device
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
        outputs = forward(model, lanes, [batch] * len(lanes), device, objective)
        if objective.generation is None:
            answers = [objective.answers(output.logits, output.labels) for output in outputs]
        else:
            texts = generate(model, lanes, batch, device, objective.generation)
            answers = [objective.generation.judge(written, batch.references) for written in texts]
        for i, (output, said) in enumerate(zip(outputs, answers, strict=True)):
            loss[i] += output.loss.double()
            label[i] += said.label
            predicted[i] += said.predicted
    model.train(was_training)
    results = []
    for i in range(len(lanes)):
        answers = Answers(label[i], predicted[i])
        scores = objective.scores(answers) if objective.scores else {}
        mean = loss[i].item() / max(1, count)
        results.append(Evaluation(answers.accuracy, mean, len(split), answers.unparsed, answers, scores))
    return results
