"""How a prediction is scored: three points for right, fewer for near. Plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.learn.course import Question

MOST = 3
WORDS = ("not this time", "in the right region", "close", "exactly right")


@dataclass(frozen=True)
class Score:
    """Points from 0 to 3 and what they mean in words."""

    points: int
    words: str


def score(question: Question, prediction: float | str, answer: float | str) -> Score:
    """The score of a prediction: a choice is right or not; a number is judged by its ratio to the answer.

    Whole answers up to 1000 must be hit exactly for three points; larger or fractional ones within 5 %. Two points
    are for 25 %, one for a factor of two. The ratio is taken both ways, so that half and double count the same.
    """
    if question.choices:
        points = MOST if prediction == answer else 0
        return Score(points, "right" if points else WORDS[0])
    if prediction == answer:
        return Score(MOST, WORDS[MOST])
    if answer == 0 or prediction == 0 or (prediction < 0) != (answer < 0):
        return Score(0, WORDS[0])
    off = abs(math.log(abs(prediction) / abs(answer)))
    exact = question.whole and abs(answer) <= 1000
    if not exact and off <= math.log(1.05):
        return Score(MOST, "right, within 5 %")
    points = 2 if off <= math.log(1.25) else 1 if off <= math.log(2) * (1 + 1e-9) else 0
    return Score(points, WORDS[points])
