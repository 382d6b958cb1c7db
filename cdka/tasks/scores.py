"""Metrics beside accuracy, from the answers of a split. Free of torch.

Answers are label numbers; an unparsed one is None and is counted as the wrong label of a binary task.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdka.tasks.objectives import Answers


def _table(answers: Answers) -> tuple[int, int, int, int]:
    """(true positives, false positives, false negatives, true negatives) of a binary task; 1 is positive."""
    said = [1 - wanted if given is None else given for given, wanted in zip(answers.predicted, answers.label,
                                                                          strict=True)]  # fmt: skip
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
