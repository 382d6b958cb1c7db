"""The score of a prediction: three points for right, fewer for near. Plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.learn.course import Question

MAX_POINTS = 3
SECOND_TRY_POINTS = 2
"""The most that a second try earns."""
WORDS = ("not this time", "in the right region", "close", "right")


@dataclass(frozen=True)
class Score:
    """Points from 0 to 3 and their meaning in words."""

    points: int
    words: str


def score(question: Question, prediction: float | str, answer: float | str, tries: int = 1) -> Score:
    """The score of a prediction at the given try.

    A choice is right or not; a number is judged by its ratio to the answer, unless the question has its own ``points``.
    A whole answer of at most 1000 must be hit exactly for three points; a larger or fractional one within 5 %. Two
    points are for 25 %, one for a factor of two; the ratio counts the same both ways. A second try earns at most two.
    """
    points = _points(question, prediction, answer)
    words = WORDS[points]
    if points == MAX_POINTS and not question.choices and prediction != answer:
        words = "right, as near as it can be told"
    return Score(points if tries == 1 else min(points, SECOND_TRY_POINTS), words)


def is_right(question: Question, prediction: float | str, answer: float | str) -> bool:
    """True for a prediction that would earn all points at the first try."""
    return _points(question, prediction, answer) == MAX_POINTS


def _points(question: Question, prediction: float | str, answer: float | str) -> int:
    if isinstance(prediction, str) or isinstance(answer, str):
        return MAX_POINTS if prediction == answer else 0
    if question.points is not None:
        return question.points(prediction, answer)
    exact = question.whole and abs(answer) <= 1000
    return MAX_POINTS if prediction == answer else by_ratio(prediction, answer, full=1.0 if exact else 1.05)


def by_ratio(prediction: float, answer: float, full: float = 1.0) -> int:
    """Points by the ratio of prediction and answer: three within ``full`` (none for 1), two for 25 %, one for a factor
    of 2."""
    if answer == 0 or prediction == 0 or (prediction < 0) != (answer < 0):
        return 0
    off = abs(math.log(abs(prediction) / abs(answer)))
    if full > 1 and off <= math.log(full):
        return MAX_POINTS
    return 2 if off <= math.log(1.25) else 1 if off <= math.log(2) * (1 + 1e-9) else 0
