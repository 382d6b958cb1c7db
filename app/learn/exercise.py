"""Predict, then reveal: the last page of every chapter. The app computes the answer and scores the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import parts
from app.learn import controls, progress
from app.learn.board.matrices import short
from app.learn.course import MOST_SEED, Chapter, Question
from app.learn.markup import to_html
from app.learn.scoring import MOST, score

MADE = "learn_predictions"
"""The predictions of this session by chapter, seed and name of the question."""

Key = tuple[int, int, str]


@dataclass
class _Prediction:
    """What was predicted, and whether its score is in the progress file (only the first one of a question counts)."""

    said: Any
    scored: bool = False


def render(
    chapter: Chapter, values: dict[str, Any], hide: frozenset[str], text: DeltaGenerator, figure: DeltaGenerator
) -> None:
    """Draw the exercise: the question on the left, the covered figure on the right."""
    with text:
        parts.show(f'<div class="cdka-quiet">Chapter {chapter.number} · predict, then reveal</div>')
        st.markdown("## Predict", anchors=False)
        values["seed"] = seed = controls.seed()
    with figure, parts.errors_shown():
        question = chapter.ask(seed, values)
        key = (chapter.number, seed, question.name)
        made: _Prediction | None = st.session_state.setdefault(MADE, {}).get(key)
        with text:
            st.markdown(to_html(question.prompt), unsafe_allow_html=True)
            if made is None:
                _predict(key, question, hide)
            else:
                _judge(chapter, key, question, hide, made, values)
        with st.container(key="learn-stage"):
            chapter.cover(question, made is not None and "solution" not in hide)


def _predict(key: Key, question: Question, hide: frozenset[str]) -> None:
    place = "_".join(map(str, key))
    if question.choices:
        guess = st.radio("Your prediction", question.choices, index=None, key=f"guess_{place}")
    else:
        guess = st.number_input(
            f"Your prediction ({question.unit})" if question.unit else "Your prediction",
            value=None, step=1.0 if question.whole else 0.1, format="%g", key=f"guess_{place}", width=220,
        )  # fmt: skip
    refusal = out_of_range(question, guess)
    if refusal:
        parts.error(refusal)
    label = "Keep my prediction" if "solution" in hide else "Train and reveal" if question.begin else "Reveal"
    st.button(
        label, type="primary", disabled=guess is None or bool(refusal), key=f"reveal_{place}", on_click=_made,
        args=(key, guess, None if "solution" in hide else question.begin),
    )  # fmt: skip


def out_of_range(question: Question, guess: Any) -> str:
    """Why a prediction is not taken (a slip of the keyboard must not cost the question); empty where it is."""
    if question.choices or guess is None or question.low <= guess <= question.high:
        return ""
    low, high = _told(question.low), _told(question.high)
    return f"the answer lies between {low} and {high}: got {_told(guess)}. Type a number in that range."


def _made(key: Key, guess: Any, begin: Any) -> None:
    st.session_state[MADE][key] = _Prediction(guess)
    if begin is not None:
        begin()


def _judge(
    chapter: Chapter, key: Key, question: Question, hide: frozenset[str], made: _Prediction, values: dict[str, Any]
) -> None:
    said = made.said if question.choices else f"{_told(made.said)} {question.unit}".strip()
    if "solution" in hide:
        st.markdown(f"Your prediction is kept: **{said}**. Your teacher has hidden the solution.")
        return
    answer = question.answer()
    if answer is None:
        parts.show(f'<div class="learn-verdict" role="status">You predicted <b>{said}</b>. The runs will tell.</div>')
        return
    result = score(question, made.said, answer)
    if not made.scored:
        made.scored = True
        progress.save(progress.load().scored(chapter.number, result.points))
    stars = "●" * result.points + "○" * (MOST - result.points)
    missed = "" if result.points else " missed"
    parts.show(
        f'<div class="learn-verdict{missed}" role="status">You predicted <b>{said}</b>: {result.words}.'
        f"<span>{stars} {result.points} of {MOST}</span></div>"
    )
    st.markdown(to_html(question.explain(answer)), unsafe_allow_html=True)
    st.button("Another question", key=f"more_{key[0]}_{key[1]}", on_click=_another,
              args=(chapter, key[1], values))  # fmt: skip
    if chapter.finish:
        st.markdown(f"*{chapter.finish}*")


def _told(value: float) -> str:
    return short(value) if abs(value) < 1000 else f"{value:,.0f}"


def _another(chapter: Chapter, seed: int, values: dict[str, Any]) -> None:
    st.session_state["seed"] = another(chapter, seed, values)


def another(chapter: Chapter, seed: int, values: dict[str, Any]) -> int:
    """The next number whose question reads differently, soon after this one; else simply the next."""
    asked = chapter.ask(seed, values).prompt
    later = [(seed + step) % (MOST_SEED + 1) for step in range(1, 9)]
    return next((number for number in later if chapter.ask(number, values).prompt != asked), later[0])
