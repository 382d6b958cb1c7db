"""Judge the runs of a pack on a split: loss, accuracy and every answer, example by example, watched and stoppable."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from cdka.runs.metrics import prefixed
from cdka.tasks.scores import Answers
from cdka.train import distributed
from cdka.train.data.objectives import Objective
from cdka.train.data.splits import AnySplit, TextSplit
from cdka.train.forward import forward, plain_model
from cdka.train.generate import decode, rows_that_fit
from cdka.train.member import Member

MIN_SORTED_LENGTH = 64
"""Texts are judged in the order of their length where the longest is longer than this; below, padding costs little."""


MAX_PASS_VALUES = 2**22
"""Hidden values, of all members together, that one pass over long texts may make in a layer."""


@dataclass(frozen=True)
class Progress:
    """Progress of a phase: ``done`` of ``of`` ``unit``s. ``done`` may be a fraction while a batch is at work."""

    phase: str
    done: float
    of: int
    unit: str = "examples"
    rate: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores of one run on one split. ``loss`` is per judged position; ``unparsed`` answers count as wrong.

    ``accuracy`` is that of ``answered`` examples (a part of ``examples`` where answers are generated for fewer), None
    where answers are not just right or wrong; ``token_accuracy`` that of the next token, None where there are no tokens
    to predict. ``scores`` are the task's further metrics, by name. ``rows`` are the places in the split of the examples
    that were answered.
    """

    accuracy: float | None
    loss: float
    examples: int
    answered: int
    unparsed: int
    answers: Answers
    scores: Mapping[str, float]
    token_accuracy: float | None = None
    rows: tuple[int, ...] = ()

    @property
    def quality(self) -> float:
        """The value that chooses the best evaluation: the accuracy where every example was answered, else the loss."""
        return self.accuracy if self.quality_name == "accuracy" and self.accuracy is not None else -self.loss

    @property
    def quality_name(self) -> str:
        """``"accuracy"`` or ``"loss"``."""
        judged = self.accuracy is not None and self.answered == self.examples and bool(self.answers.label)
        return "accuracy" if judged else "loss"

    def metrics(self, split: str) -> dict[str, Any]:
        """The metrics by name, under the name of the split."""
        measures: dict[str, Any] = {"loss": self.loss, **self.scores}
        if self.accuracy is not None:
            measures = {"accuracy": self.accuracy, **measures}
        if self.token_accuracy is not None:
            measures["token_accuracy"] = self.token_accuracy
            measures["perplexity"] = math.exp(min(self.loss, 700.0))
        return prefixed(split, measures)


Evaluating = Generator[Progress, None, list[Evaluation]]


def evaluate(
    model: torch.nn.Module,
    members: Sequence[Member],
    split: AnySplit,
    objective: Objective,
    device: torch.device,
    answer_rows: torch.Tensor | None = None,
) -> Evaluating:
    """One Evaluation per member, all on the same examples, in the order of the split; yields its progress.

    Where answers are generated, ``answer_rows`` are the places of the examples that get one (None: all). Closing the
    generator ends it after the batch, or the token, at hand.
    """
    if not members:
        return []
    was_training = model.training
    model.eval()
    try:
        losses = yield from _losses(model, members, split, objective, device)
        if objective.generation is None:
            rows = torch.arange(len(split)) if losses.answers else torch.arange(0)
            answers = losses.answers
        else:
            rows = torch.arange(len(split)) if answer_rows is None else answer_rows
            answers = yield from _generated(model, members, split, rows, objective, device)
    finally:
        model.train(was_training)
    return [_evaluation(objective, losses, i, answers, rows, len(split)) for i in range(len(members))]


@dataclass(frozen=True)
class _Losses:
    """Per member: the summed loss, the next tokens that were right, and the answers read off the logits (if any)."""

    count: int
    loss: list[float]
    right: list[int] | None
    answers: list[Answers] | None


@torch.no_grad()
def _losses(
    model: torch.nn.Module, members: Sequence[Member], split: AnySplit, objective: Objective, device: torch.device
) -> Generator[Progress, None, _Losses]:
    loss = [torch.zeros((), dtype=torch.float64, device=device) for _ in members]
    right = [torch.zeros((), dtype=torch.int64, device=device) for _ in members]
    reads_logits = hasattr(objective, "answers")
    label: list[list] = [[] for _ in members]
    predicted: list[list] = [[] for _ in members]
    count = done = 0
    order = _by_length(split, torch.arange(len(split)))
    for rows in _parts(order, _rows_of_a_pass(model, members, split)):
        batch = split.take(rows)
        count += objective.count(batch.labels)
        for i, output in enumerate(forward(model, members, [batch] * len(members), device, objective)):
            loss[i] += output.loss.double()
            if reads_logits:
                answers = objective.answers(output.logits, output.labels)
                label[i] += answers.label
                predicted[i] += answers.predicted
            else:
                right[i] += output.right
        done += len(rows)
        yield Progress("evaluate", done * distributed.size(), len(split))
    parts = distributed.gather((count, [x.item() for x in loss], [x.item() for x in right], label, predicted))
    members_of = range(len(members))
    total = sum(part[0] for part in parts)
    summed = [sum(part[1][i] for part in parts) for i in members_of]
    if not reads_logits:
        return _Losses(total, summed, [sum(part[2][i] for part in parts) for i in members_of], None)
    answers = [
        Answers(
            _in_place(distributed.interleave([part[3][i] for part in parts]), order),
            _in_place(distributed.interleave([part[4][i] for part in parts]), order),
        )
        for i in members_of
    ]
    return _Losses(total, summed, None, answers)


def _generated(
    model: torch.nn.Module,
    members: Sequence[Member],
    split: TextSplit,
    rows: torch.Tensor,
    objective: Objective,
    device: torch.device,
) -> Generator[Progress, None, list[Answers]]:
    """Each member's answers to the examples at ``rows``, the longest prompts first."""
    if not len(rows):
        return [Answers([], []) for _ in members]
    how = objective.generation
    order = _by_length(split, rows)
    longest = int(split.source.lengths[rows].max())
    fits = rows_that_fit(model, device, len(members), longest, how.max_new_tokens)
    texts: list[list[str]] = [[] for _ in members]
    done = 0
    for part in _parts(order, min(fits, max(2 * members[0].spec.batch_size, 16))):
        batch = split.take(part)
        tokens = 0
        with closing(decode(model, members, batch, device, how)) as decoding:
            while True:
                try:
                    next(decoding)
                except StopIteration as end:
                    found = how.decode(end.value)
                    break
                tokens += 1
                share = tokens / how.max_new_tokens
                yield Progress("generate", (done + len(part) * share) * distributed.size(), len(rows), "answers")
        for i in range(len(members)):
            texts[i] += found[i * len(part) : (i + 1) * len(part)]
        done += len(part)
        yield Progress("generate", done * distributed.size(), len(rows), "answers")
    parts = distributed.gather(texts)
    asked = split.take(rows).references
    found = [_in_place(distributed.interleave([part[i] for part in parts]), order, rows) for i in range(len(members))]
    return [replace(how.judge(one, asked), texts=one) for one in found]


def _rows_of_a_pass(model: torch.nn.Module, members: Sequence[Member], split: AnySplit) -> int:
    """Examples judged at a time: two batches, or fewer where long texts would take too much memory."""
    rows = 2 * members[0].spec.batch_size
    if not isinstance(split, TextSplit):
        return rows
    config = plain_model(model).config.get_text_config()
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 1024
    return max(1, min(rows, MAX_PASS_VALUES // (width * len(members) * int(split.lengths.max()))))


def _by_length(split: AnySplit, rows: torch.Tensor) -> torch.Tensor:
    """The rows, the longest text first where texts are long: batches of similar length waste no padding."""
    if not isinstance(split, TextSplit) or not len(rows):
        return rows
    lengths = split.lengths[rows]
    return (
        rows if int(lengths.max()) <= MIN_SORTED_LENGTH else rows[torch.argsort(lengths, descending=True, stable=True)]
    )


def _parts(rows: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """This process's shard of the rows, in batches of ``size``."""
    rows = distributed.shard(rows)
    return rows.split(size) if len(rows) else ()


def _in_place(values: Sequence[Any], order: torch.Tensor, rows: torch.Tensor | None = None) -> list[Any]:
    """``values``, which came in the order of the row numbers ``order``, in the order of ``rows`` (None: ascending)."""
    place = {row: value for row, value in zip(order.tolist(), values, strict=True)}
    return [place[row] for row in (sorted(place) if rows is None else rows.tolist())]


def _evaluation(
    objective: Objective, losses: _Losses, i: int, answers: list[Answers] | None, rows: torch.Tensor, examples: int
) -> Evaluation:
    mean = losses.loss[i] / max(1, losses.count)
    token_accuracy = None if losses.right is None else losses.right[i] / max(1, losses.count)
    if answers is None:  # plain text: the next token is the answer
        return Evaluation(token_accuracy, mean, examples, examples, 0, Answers([], []), {}, token_accuracy)
    mine = answers[i]
    if not mine.label:
        return Evaluation(None, mean, examples, 0, 0, mine, {}, token_accuracy)
    return Evaluation(
        mine.accuracy if objective.has_accuracy else None,
        mean,
        examples,
        len(mine.label),
        mine.unparsed,
        mine,
        objective.scores(mine) if objective.scores else {},
        token_accuracy,
        tuple(rows.tolist()),
    )
