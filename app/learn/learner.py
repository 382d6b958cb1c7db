"""The learner in this browser: a name in the address for a class on one server, else nobody in particular."""

from __future__ import annotations

import streamlit as st

from app.learn.progress import MAX_NAME

PARAMETER = "learner"


def current() -> str:
    """The name in the address, shortened to MAX_NAME characters; empty where there is none."""
    return " ".join(st.query_params.get(PARAMETER, "").split())[:MAX_NAME]


def field() -> None:
    """A text field for the name; it stays in the address, so that a bookmark or a reload keeps it."""

    def keep() -> None:
        name = " ".join(st.session_state["learn_name"].split())[:MAX_NAME]
        if name:
            st.query_params[PARAMETER] = name
        else:
            st.query_params.pop(PARAMETER, None)

    st.session_state["learn_name"] = current()
    st.text_input(
        "Your name in this class",
        key="learn_name",
        max_chars=MAX_NAME,
        on_change=keep,
        width=220,
        placeholder="for the scoreboard",
        help="Kept on the server of this class, with your predictions and points.",
    )
