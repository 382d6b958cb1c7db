"""The answers of a split, and the metrics computed from them. Free of torch.

The binary metrics read label numbers; an unparsed answer is None and counts as the wrong label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answers:
    """One entry per example: the right answer, and the predicted one (None: it could not be parsed)."""

    label: list[Any]
    predicted: list[Any]

    @property
    def accuracy(self) -> float:
        """The share of examples whose prediction equals the label; an unparsed one counts as wrong."""
        return sum(p is not None and p == w for p, w in zip(self.predicted, self.label, strict=True)) / len(self.label)

    @property
    def unparsed(self) -> int:
        """The number of examples without a prediction."""
        return sum(p is None for p in self.predicted)


Scores = Callable[[Answers], Mapping[str, float]]
"""Further metrics of a split, by name, from its answers."""
Judge = Callable[[Sequence[str], Sequence[Any]], Answers]
"""Compares generated texts with their references."""


def judged_by(read: Callable[[str], Any]) -> Judge:
    """A judge that reads an answer out of each text (None: there is none) and compares it with the reference."""
    return lambda texts, references: Answers(list(references), [read(text) for text in texts])


def _table(answers: Answers) -> tuple[int, int, int, int]:
    """(true positives, false positives, false negatives, true negatives) of a binary task; 1 is positive."""
    said = [
        1 - wanted if given is None else given for given, wanted in zip(answers.predicted, answers.label, strict=True)
    ]
    pairs = list(zip(said, answers.label, strict=True))
    return pairs.count((1, 1)), pairs.count((1, 0)), pairs.count((0, 1)), pairs.count((0, 0))


def binary_f1(answers: Answers) -> dict[str, float]:
    """``{"f1"}`` of label 1; 0 where nothing is right."""
    hit, false_alarm, missed, _ = _table(answers)
    return {"f1": 2 * hit / (2 * hit + false_alarm + missed) if hit else 0.0}


def matthews(answers: Answers) -> dict[str, float]:
    """``{"matthews"}``: Matthews' correlation coefficient, GLUE's metric for CoLA; 0 where it is not defined."""
    hit, false_alarm, missed, rejected = _table(answers)
    below = math.sqrt((hit + false_alarm) * (hit + missed) * (rejected + false_alarm) * (rejected + missed))
    return {"matthews": (hit * rejected - false_alarm * missed) / below if below else 0.0}
