"""Play, pause, step: tiny trainings that run while one watches, and begin again when a setting changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import altair as alt
import pandas as pd
import streamlit as st

from app import charts, theme, widgets
from app.learn.live import spread
from app.learn.toy import Training

EVERY_S, STEPS_AT_ONCE, END = 0.35, 3, 150
"""Seconds between two updates, training steps in each, and where playing stops."""
INKS = (theme.R, theme.R1, theme.LORA)
DASHES = ([1, 0], [6, 3], [2, 2])


Arms = Sequence[tuple[str, Training]]
"""The trainings by the name in the figure."""


def player(key: str, settings: Hashable, again: Callable[[], Arms]) -> None:
    """Draw the buttons and the curves. ``again()`` makes the named trainings; they begin anew when ``settings`` change.

    Playing goes on over a change of settings.
    """
    state = st.session_state.setdefault(f"{key}-player", {"settings": None, "arms": [], "playing": False})
    if state["settings"] != settings:
        state.update(settings=settings, arms=list(again()))
    playing = state["playing"] and _steps(state) < END

    def press(what: str) -> None:
        if what == "step":
            state["playing"] = False
            _train(state, 1)
        elif what == "again":
            state.update(arms=list(again()), playing=False)
        else:
            state["playing"] = what == "play"
            if what == "play" and _steps(state) >= END:
                state["arms"] = list(again())

    @st.fragment(run_every=EVERY_S if playing else None, key=f"{key}-fragment")
    def show() -> None:
        if state["playing"]:
            _train(state, STEPS_AT_ONCE)
            if _steps(state) >= END:
                state["playing"] = False
                st.rerun()
        with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-buttons"):
            label = "Pause" if state["playing"] else "Play"
            if st.button(label, type="primary", key=f"{key}-play", width=96, on_click=press, args=(label.lower(),)):
                st.rerun()  # the whole page, since the fragment begins or ends to run by itself
            st.button("Step", key=f"{key}-step", on_click=press, args=("step",))
            st.button("From the start", key=f"{key}-again", on_click=press, args=("again",))
            widgets.html_block(f'<span class="learn-count">step <b>{_steps(state)}</b> of {END}</span>')
        charts.show_altair(
            curves(state["arms"]),
            key=f"{key}-curves",
            width="stretch",
            alt="Validation accuracy by step: " + ", ".join(_ends(state["arms"])),
        )

    show()


def _steps(state: dict) -> int:
    return len(state["arms"][0][1].losses)


def _train(state: dict, number: int) -> None:
    for _, training in state["arms"]:
        training.step(min(number, END - len(training.losses)))


def _ends(arms: Arms) -> list[str]:
    return [f"{name} {training.accuracies[-1]:.2f}" for name, training in arms]


def curves(arms: Arms) -> alt.LayerChart:
    """Validation accuracy of each training against its steps, labelled at the ends."""
    rows = [
        {"name": name, "step": step, "accuracy": value}
        for name, training in arms
        for step, value in training.measured()
    ]
    frame = pd.DataFrame(rows)
    names = [name for name, _ in arms]
    colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=list(INKS[: len(names)])), legend=None)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "step:Q",
            title="training step",
            scale=alt.Scale(domain=[0, END * 1.3], nice=False),
            axis=alt.Axis(values=list(range(0, END + 1, 30))),
        ),
        y=alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(domain=[0, 1])),
        color=colour,
    )
    dash = alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=list(DASHES[: len(names)])), legend=None)
    lines = base.mark_line(strokeWidth=2.4).encode(strokeDash=dash)
    ends = frame.groupby("name", sort=False).tail(1).sort_values("accuracy")
    heights = spread(ends["accuracy"].tolist(), 0.07)
    ends = ends.assign(
        accuracy=heights, label=[f"{n} {a:.2f}" for n, a in zip(ends["name"], ends["accuracy"], strict=True)]
    )
    labels = (
        alt.Chart(ends)
        .mark_text(align="left", dx=7, fontWeight="bold", fontSize=12)
        .encode(x="step:Q", y="accuracy:Q", text="label:N", color=colour)
    )
    return charts.altair(alt.layer(lines, labels), "Validation accuracy while it trains", height=300)
