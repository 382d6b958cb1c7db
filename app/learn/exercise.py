"""Predict, then reveal: the last page of every chapter. The app computes the answer and scores the prediction."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import widgets
from app.learn import controls, progress
from app.learn.board.matrices import short
from app.learn.course import MAX_SEED, Chapter, Question
from app.learn.markup import to_html
from app.learn.progress import Key, Prediction
from app.learn.scoring import MAX_POINTS, is_right, score

GIVEN_UP = "learn_given_up"
"""The questions whose solution was asked for before the second try, by key, in this session."""
MISSING = "learn_missing"
"""Set where Reveal was pressed without a prediction."""


def render(
    chapter: Chapter, values: dict[str, Any], hide: frozenset[str], text: DeltaGenerator, figure: DeltaGenerator
) -> None:
    """Draw the exercise: the question on the left, the covered figure on the right."""
    with text:
        title = widgets.unseen_heading_html(f"{chapter.number}. {chapter.prose.title}")
        kicker = f"Chapter {chapter.number} · predict, then reveal"
        widgets.html_block(f'{title}<div class="cdka-quiet">{kicker}</div>')
        st.markdown("## Predict", anchors=False)
        values["seed"] = seed = controls.seed()
    with figure, widgets.errors_shown():
        question = chapter.question(seed, values)
        key = (chapter.number, seed, question.name)
        kept = progress.load(progress.learner_name()).predictions.get(key)
        with text:
            st.markdown(to_html(question.prompt), unsafe_allow_html=True)
            done = _is_done(question, kept, key)
            if kept is not None and kept.answers and (done or "solution" in hide):
                _verdict(chapter, key, question, hide, kept, values)
            else:
                if kept is not None and kept.answers:
                    _second_try(key, question, kept)
                _predict(key, question, hide)
        with st.container(key="learn-stage"):
            chapter.draw_question(question, done and "solution" not in hide)


def _is_done(question: Question, kept: Prediction | None, key: Key) -> bool:
    """True once the solution may be shown: right, out of tries, given up, or left to real runs."""
    if kept is None or not kept.answers:
        return False
    if (
        kept.points is not None
        or len(kept.answers) >= question.num_tries
        or key in st.session_state.get(GIVEN_UP, set())
    ):
        return True
    answer = question.answer()
    return answer is not None and is_right(question, kept.answers[-1], answer)


def _predict(key: Key, question: Question, hide: frozenset[str]) -> None:
    """The form: its button takes the field's value with the first click, also while one still types."""
    place = "_".join(map(str, key))
    with st.form(f"form_{place}", border=False, enter_to_submit=True):
        if question.choices:
            st.radio("Your prediction", question.choices, index=None, key=f"guess_{place}")
        else:
            st.number_input(
                f"Your prediction ({question.unit})" if question.unit else "Your prediction",
                value=None,
                step=1.0 if question.whole else 0.1,
                format="%g",
                key=f"guess_{place}",
                width=220,
            )
        label = "Keep my prediction" if "solution" in hide else "Train and reveal" if question.begin else "Reveal"
        st.form_submit_button(
            label,
            type="primary",
            key=f"reveal_{place}",
            on_click=_made,
            args=(key, question, f"guess_{place}", "solution" in hide),
        )
    if st.session_state.get(MISSING) == key:
        widgets.error(
            "Make a prediction first: choose an answer."
            if question.choices
            else "Make a prediction first: type a number."
        )
    elif not question.choices and (refusal := out_of_range(question, st.session_state.get(f"guess_{place}"))):
        widgets.error(refusal)


def out_of_range(question: Question, guess: Any) -> str:
    """The reason why a prediction is not taken (a slip must not cost the question); empty where it is taken."""
    if question.choices or guess is None or question.low <= guess <= question.high:
        return ""
    low, high = _number(question.low), _number(question.high)
    return f"The answer lies between {low} and {high}: got {_number(guess)}. Type a number in that range."


def _made(key: Key, question: Question, field: str, hidden: bool) -> None:
    guess = st.session_state.get(field)
    st.session_state[MISSING] = key if guess is None else None
    if guess is None or out_of_range(question, guess):
        return
    progress.update(lambda kept: kept.answered(key, guess), progress.learner_name())
    if question.begin is not None and not hidden:
        question.begin()


def _second_try(key: Key, question: Question, kept: Prediction) -> None:
    """After a first wrong answer: the kind of mistake, and a way to the solution."""
    answer = question.answer()
    hint = question.hint(kept.answers[-1], answer)
    said = _in_words(question, kept.answers[-1])
    _status(f"Not yet: you said <b>{said}</b>. Try once more.", missed=True)
    if hint:
        st.markdown(to_html(hint), unsafe_allow_html=True)
    st.button(
        "Show the solution", type="tertiary", key=f"give-up_{'_'.join(map(str, key))}", on_click=_give_up, args=(key,)
    )


def _give_up(key: Key) -> None:
    st.session_state.setdefault(GIVEN_UP, set()).add(key)


def _verdict(
    chapter: Chapter, key: Key, question: Question, hide: frozenset[str], kept: Prediction, values: dict[str, Any]
) -> None:
    last = kept.answers[-1]
    said = _in_words(question, last)
    if "solution" in hide:
        st.markdown(f"Your prediction is kept: **{said}**. Your teacher has hidden the solution.")
        return
    answer = question.answer()
    if answer is None:
        _status(f"You predicted <b>{said}</b>. The runs will decide.")
        return
    result = score(question, last, answer, tries=len(kept.answers))
    if kept.points is None:
        progress.update(lambda known: known.scored(key, result.points, answer), progress.learner_name())
    points = result.points if kept.points is None else kept.points
    stars = "●" * points + "○" * (MAX_POINTS - points)
    _status(
        f"You predicted <b>{said}</b>: {result.words}. <span>{stars} {points} of {MAX_POINTS}</span>", missed=not points
    )
    if question.begin is not None and not is_right(question, last, answer) and (hint := question.hint(last, answer)):
        st.markdown(to_html(hint), unsafe_allow_html=True)
    st.markdown(to_html(question.explain(answer)), unsafe_allow_html=True)
    st.button("Another question", key=f"more_{key[0]}_{key[1]}", on_click=_another, args=(chapter, key[1], values))
    st.markdown(f"*{chapter.prose.finish}*")


def _in_words(question: Question, said: float | str) -> str:
    return said if isinstance(said, str) else f"{_number(said)} {question.unit}".strip()


def _status(body: str, *, missed: bool = False) -> None:
    widgets.html_block(f'<div class="learn-verdict{" missed" if missed else ""}" role="status">{body}</div>')


def _number(value: float) -> str:
    return short(value) if abs(value) < 1000 else f"{value:,.0f}"


def _another(chapter: Chapter, seed: int, values: dict[str, Any]) -> None:
    st.session_state["seed"] = another(chapter, seed, values)


def another(chapter: Chapter, seed: int, values: dict[str, Any]) -> int:
    """The next number whose question reads differently, soon after this one; else simply the next."""
    asked = chapter.question(seed, values).prompt
    later = [(seed + step) % (MAX_SEED + 1) for step in range(1, 9)]
    return next((number for number in later if chapter.question(number, values).prompt != asked), later[0])
