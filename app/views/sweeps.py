"""Sweeps: many configurations at once, and one-click studies of the paper's claims."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import state, widgets
from app.sweeps import plan_builder, study_cards
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import ModelShapes
from cdka.tasks.catalogue import TASKS, TaskInfo, find_task

BUILD, STUDIES = "Build a sweep", "Studies"
CSS = Path(plan_builder.__file__).with_name("sweeps.css")


def model() -> ModelShapes:
    """Asks for the model; what cannot be found is told in place, and the last one that could be stays."""
    names = [shapes.name for shapes in list_models()]
    chosen = st.selectbox(
        "Model",
        names,
        index=names.index(state.default("plan_model")),
        accept_new_options=True,
        **state.bound("plan_model"),
        width=240,
        help="The catalogue, or type a Hub id or a folder.",
    )
    last = st.session_state.get("sweep-model-found", state.default("plan_model"))
    try:
        shapes = find_model(chosen or last)
    except CdkaError as refusal:
        widgets.error(f"{refusal} Showing {last} meanwhile.")
        shapes = find_model(last)
    st.session_state["sweep-model-found"] = shapes.name
    return shapes


def task(shapes: ModelShapes) -> TaskInfo:
    """Asks for a task that fits the model."""
    images = shapes.kind.startswith("image")
    fitting = [
        info.name
        for info in TASKS.values()
        if (shapes.name in info.models if info.models else info.kind.startswith("image") == images)
    ]
    if not fitting:
        raise CdkaError(f"no task in the catalogue fits {shapes.name!r}. Choose another model, or see: cdka tasks")
    if st.session_state.get("plan_task", fitting[0]) not in fitting:
        st.session_state["plan_task"] = fitting[0]
    usual = state.default("plan_task")
    name = st.selectbox(
        "Task", fitting, index=fitting.index(usual) if usual in fitting else 0, **state.bound("plan_task"), width=240
    )
    return find_task(name)


def page() -> None:
    """The room."""
    st.html(CSS)
    state.arrive("sweeps")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="sweep-head"):
        part = (
            st.segmented_control(
                "Part",
                [BUILD, STUDIES],
                default=state.default("part"),
                required=True,
                label_visibility="collapsed",
                **state.bound("part"),
            )
            or BUILD
        )
        shapes = model()
        info = task(shapes)
        sizes = ", ".join(f"{size:,} {split}" for split, size in info.examples.items())
        widgets.html_block(
            f'<div class="cdka-quiet">{widgets.count_html(shapes.base_params, "parameters")}. '
            f"{info.title}: {sizes or 'sizes are known once it is loaded'}</div>"
        )
    if part == STUDIES:
        study_cards.page(shapes.name, info.name)
    else:
        plan_builder.page(shapes, info)


page()
