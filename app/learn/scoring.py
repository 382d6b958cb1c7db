"""The score of a prediction: three points for right, fewer for near; and the class scoreboard, best first."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from app import widgets
from app.learn import progress
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


@dataclass(frozen=True)
class Line:
    """One prediction: who, about which question, what was said, what was true (None: not yet known), points."""

    learner: str
    question: str
    predicted: float | str
    answer: float | str | None
    points: int | None


def scoreboard_entries(chapter: int) -> list[Line]:
    """All predictions of a chapter, most points first, then the nearest; those still open last."""
    found = [
        Line(name or "(no name)", key[2], kept.answers[-1], kept.answer, kept.points)
        for name, learner in progress.everybody().items()
        for key, kept in learner.predictions.items()
        if key[0] == chapter and kept.answers
    ]

    def rank(line: Line) -> tuple[bool, int, float]:
        off = 0.0
        if not isinstance(line.predicted, str) and line.answer is not None and not isinstance(line.answer, str):
            off = abs(line.predicted - line.answer)
        return line.points is None, -(line.points or 0), off

    return sorted(found, key=rank)


def draw_scoreboard(chapter: int) -> None:
    """The table; nothing where nobody has predicted anything."""
    found = scoreboard_entries(chapter)
    if not found:
        return
    rows = "".join(
        f"<tr><td>{html.escape(line.learner)}</td><td>{_question(line.question)}</td><td>{_number(line.predicted)}</td>"
        f"<td>{'running' if line.answer is None else _number(line.answer)}</td>"
        f"<td>{'' if line.points is None else f'{line.points} of {MAX_POINTS}'}</td></tr>"
        for line in found
    )
    widgets.html_block(
        '<div class="learn-question"><table><caption>Scoreboard of this server</caption><thead><tr><th>who</th>'
        "<th>design and rival</th><th>predicted</th><th>measured</th><th>points</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _question(name: str) -> str:
    """``lora:4|8,16,3|Its twin`` as ``8,16,3 against its twin (lora:4)``."""
    pieces = name.split("|")
    if len(pieces) != 3:
        return html.escape(name)
    budget, design, rival = map(html.escape, pieces)
    return f"{design} against {rival[0].lower() + rival[1:] if rival.startswith('Its') else rival} ({budget})"


def _number(value: float | str) -> str:
    return f"{value:+.1f}" if isinstance(value, int | float) else html.escape(value)
