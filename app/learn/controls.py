"""Draws the controls of a chapter and marks those that the text is about."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.learn import address
from app.learn.course import MAX_SEED, Chapter, Control, Page, Try
from app.learn.kronecker.numbers import write_matrix


def draw(chapter: Chapter, page: Page, values: dict[str, Any]) -> dict[str, Any]:
    """The settings after drawing the widgets of this page; those of other pages keep theirs."""
    shown = [c for c in chapter.controls if c.kind != "matrix" and (not c.views or page.view in c.views)]
    if shown:
        _point_at([c.key for c in shown if c.name in page.focus])
        with st.container(key="learn-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
            for control in shown:
                with st.container(key=f"box-{control.key}", width="content" if control.kind != "slider" else "stretch"):
                    values[control.name] = _widget(control)
    address.remember(chapter, values)
    return values


def seed() -> int:
    """The seed field alone, for the exercise."""
    return _seed("Question", "Other numbers give other questions; the same number is the same for everybody.")


def _seed(label: str, help_: str) -> int:
    return st.number_input(
        label,
        min_value=0,
        max_value=MAX_SEED,
        step=1,
        key="seed",
        bind="query-params",
        persist_state="session",
        help=help_,
        width=130,
    )


def _widget(control: Control) -> Any:
    # No format_func: Streamlit writes the formatted text into the URL.
    if control.kind == "seed":
        return _seed(control.label, control.help)
    shared = {"key": control.key, "bind": "query-params", "persist_state": "session", "help": control.help or None}
    if control.kind == "slider":
        return st.select_slider(control.label, control.options, value=control.default, **shared)
    if control.kind == "buttons":
        return st.segmented_control(control.label, control.options, default=control.default, required=True, **shared)
    return st.selectbox(control.label, control.options, index=list(control.options).index(control.default), **shared)


def _point_at(keys: list[str]) -> None:
    """Mark the controls under discussion by a frame and the word "now", not by colour alone."""
    if keys:
        chosen = ", ".join(f".st-key-box-{key}" for key in keys)
        after = ", ".join(f".st-key-box-{key}::before" for key in keys)
        st.html(
            f'<style>{chosen} {{ outline: 2px solid var(--quiet); }}{after} {{ content: "in the text ↴"; }}</style>'
        )


def apply(chapter: Chapter, settings: Try) -> None:
    """Set controls from a button in the text (a callback: before the widgets are drawn)."""
    for control in chapter.controls:
        if control.name in settings.values:
            value = settings.values[control.name]
            if control.kind == "matrix":
                st.query_params[control.key] = write_matrix(value)
            else:
                st.session_state[control.key] = value
