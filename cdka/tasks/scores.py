"""The answers of a split, and the metrics computed from them. Free of torch.

The binary metrics read label numbers; an unparsed answer is None and counts as the wrong label.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answers:
    """One entry per example: the right answer, and the predicted one (None: it could not be parsed).

    ``texts`` are the generated answers themselves, where answers are generated.
    """

    label: list[Any]
    predicted: list[Any]
    texts: list[str] = field(default_factory=list)

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
    named = [
        1 - wanted if given is None else given for given, wanted in zip(answers.predicted, answers.label, strict=True)
    ]
    pairs = list(zip(named, answers.label, strict=True))
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


def label_scores(answers: Answers) -> dict[str, float]:
    """Of a classification beside its accuracy, so that a rare label is not overlooked.

    ``{"balanced_accuracy", "macro_f1", "majority_accuracy"}``: the mean of the labels' recalls, the mean of their F1
    scores, and the accuracy of always giving the commonest label. The means are over the labels that occur as a right
    answer or (F1) as a prediction, as in scikit-learn; an answer that could not be parsed counts as wrong.
    """
    counts, given = Counter(answers.label), Counter(answers.predicted)
    right: Counter[Any] = Counter()
    for wanted, predicted in zip(answers.label, answers.predicted, strict=True):
        right[wanted] += predicted is not None and predicted == wanted
    recalls = [right[label] / number for label, number in counts.items()]
    labels = [label for label in {**counts, **given} if label is not None]
    f1 = [2 * right[label] / (counts[label] + given[label]) for label in labels]
    return {
        "balanced_accuracy": sum(recalls) / len(recalls),
        "macro_f1": sum(f1) / len(f1),
        "majority_accuracy": max(counts.values()) / len(answers.label),
    }


def number_scores(answers: Answers) -> dict[str, float]:
    """Of a regression: ``{"mse", "mae", "spearman", "pearson", "mean_mse"}``.

    ``mean_mse`` is the squared error of always giving the mean of the right answers. A correlation is left out where
    the predictions or the answers are all the same, for it is not defined there.
    """
    wanted, given = np.asarray(answers.label, dtype=np.float64), np.asarray(answers.predicted, dtype=np.float64)
    found = {
        "mse": float(np.mean((given - wanted) ** 2)),
        "mae": float(np.mean(np.abs(given - wanted))),
        "mean_mse": float(np.var(wanted)),
    }
    if len(wanted) > 1 and np.ptp(wanted) > 0 and np.ptp(given) > 0:
        from scipy.stats import rankdata  # a second to import

        found["spearman"] = float(np.corrcoef(rankdata(wanted), rankdata(given))[0, 1])
        found["pearson"] = float(np.corrcoef(wanted, given)[0, 1])
    return found


def together(*scores: Scores | None) -> Scores:
    """One function that returns the metrics of several; None counts as none."""
    return lambda answers: {name: value for score in scores if score for name, value in score(answers).items()}
