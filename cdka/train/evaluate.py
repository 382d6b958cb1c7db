"""Judge runs on a split: loss, accuracy and every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cdka.tasks.scores import Answers
from cdka.train import distributed
from cdka.train.data.objectives import Objective
from cdka.train.data.task_data import AnySplit
from cdka.train.forward import forward
from cdka.train.generate import generate
from cdka.train.member import Member


@dataclass(frozen=True)
class Evaluation:
    """What one run scored on one split. ``loss`` is per judged position; ``unparsed`` answers count as wrong.

    ``accuracy`` is None where answers are not just right or wrong; ``scores`` are the task's further metrics, by name.
    """

    accuracy: float | None
    loss: float
    examples: int
    unparsed: int
    answers: Answers
    scores: Mapping[str, float]

    @property
    def quality(self) -> float:
        """The figure that the best evaluation is chosen by: the accuracy, or the negative loss where there is none."""
        return -self.loss if self.accuracy is None else self.accuracy


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, members: Sequence[Member], split: AnySplit, objective: Objective, device: torch.device
) -> list[Evaluation]:
    """One Evaluation per member, all on the same examples, in the order of the split."""
    if not members:
        return []
    was_training = model.training
    model.eval()
    size = 2 * members[0].spec.batch_size
    loss = [torch.zeros((), dtype=torch.float64, device=device) for _ in members]
    label: list[list] = [[] for _ in members]
    predicted: list[list] = [[] for _ in members]
    count = 0
    for rows in _parts(len(split), size):
        batch = split.take(rows)
        count += objective.count(batch.labels)
        outputs = forward(model, members, [batch] * len(members), device, objective)
        if objective.generation is None:
            answers = [objective.answers(output.logits, output.labels) for output in outputs]
        else:
            texts = generate(model, members, batch, device, objective.generation)
            answers = [objective.generation.judge(written, batch.references) for written in texts]
        for i, (output, said) in enumerate(zip(outputs, answers, strict=True)):
            loss[i] += output.loss.double()
            label[i] += said.label
            predicted[i] += said.predicted
    model.train(was_training)
    judged = distributed.gather((count, [part.item() for part in loss], label, predicted))
    count = sum(part[0] for part in judged)
    results = []
    for i in range(len(members)):
        said = Answers(
            distributed.interleave([part[2][i] for part in judged]),
            distributed.interleave([part[3][i] for part in judged]),
        )
        scores = objective.scores(said) if objective.scores else {}
        mean = sum(part[1][i] for part in judged) / max(1, count)
        accuracy = said.accuracy if objective.has_accuracy else None
        results.append(Evaluation(accuracy, mean, len(split), said.unparsed, said, scores))
    return results


def _parts(examples: int, size: int) -> tuple[torch.Tensor, ...]:
    """This process's share of the examples, in batches of ``size``."""
    rows = distributed.shard(torch.arange(examples))
    return rows.split(size) if len(rows) else ()
