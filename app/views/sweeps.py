"""Sweeps: many configurations at once, and one-click studies of the paper's claims."""

from __future__ import annotations

import html
from pathlib import Path

import streamlit as st

from app import state, widgets
from app.pickers import model_picker, task_picker
from app.sweeps import plan_builder, study_cards, sweep_list

BUILD, LIST, STUDIES = "Build a sweep", "Your sweeps", "Studies"
CSS = Path(plan_builder.__file__).with_name("sweeps.css")


def page() -> None:
    """The room."""
    st.html(CSS)
    state.arrive("sweeps")
    widgets.heading("Sweeps", "Many configurations at once, and studies of the paper's claims.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="sweep-head"):
        part = (
            st.segmented_control(
                "Part",
                [BUILD, LIST, STUDIES],
                default=state.default("part"),
                required=True,
                label_visibility="collapsed",
                **state.bound("part"),
            )
            or BUILD
        )
        shapes = info = None
        if part != LIST:
            shapes = model_picker("plan_model", help="The catalogue, or type a Hub id or a folder.", width=240)
            info = task_picker("plan_task", shapes, width=240)
            sizes = ", ".join(f"{size:,} {split}" for split, size in info.examples.items())
            widgets.html_block(
                f'<div class="cdka-quiet">{widgets.count_html(shapes.base_params, "parameters")}. '
                f"{html.escape(info.title)}: {sizes or 'sizes are known once it is loaded'}</div>"
            )
    if shapes is None or info is None:
        return sweep_list.page()
    if part == STUDIES:
        return study_cards.page(shapes.name, info)
    plan_builder.page(shapes, info)


page()
