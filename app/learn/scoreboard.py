"""The class scoreboard: the learners' predictions in one chapter, best first. Read from the progress of this server."""

from __future__ import annotations

import html
from dataclasses import dataclass

from app import widgets
from app.learn import progress
from app.learn.scoring import MAX_POINTS


@dataclass(frozen=True)
class Line:
    """One prediction: who, about which question, what was said, what was true (None: not yet known), points."""

    learner: str
    question: str
    said: float | str
    answer: float | str | None
    points: int | None


def lines(chapter: int) -> list[Line]:
    """All predictions of a chapter, most points first, then the nearest; those still open last."""
    found = [
        Line(name or "(no name)", key[2], kept.said[-1], kept.answer, kept.points)
        for name, learner in progress.everybody().items()
        for key, kept in learner.predictions.items()
        if key[0] == chapter and kept.said
    ]

    def rank(line: Line) -> tuple[bool, int, float]:
        off = 0.0
        if not isinstance(line.said, str) and line.answer is not None and not isinstance(line.answer, str):
            off = abs(line.said - line.answer)
        return line.points is None, -(line.points or 0), off

    return sorted(found, key=rank)


def draw(chapter: int) -> None:
    """The table; nothing where nobody has predicted anything."""
    found = lines(chapter)
    if not found:
        return
    rows = "".join(
        f"<tr><td>{html.escape(line.learner)}</td><td>{_question(line.question)}</td><td>{_number(line.said)}</td>"
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
