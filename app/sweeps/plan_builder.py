"""The builder: questions on the left, the arms in the middle, on the right what a click will start."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import state, widgets
from app.owndata import picker
from app.sweeps import plan_document, plan_form, plan_preview, sweep_card
from cdka.models.shapes import ModelShapes
from cdka.sweep.planfile import EXAMPLE
from cdka.tasks.catalogue import TaskInfo


def page(shapes: ModelShapes, task: TaskInfo) -> None:
    """Draws the builder for a model and a task."""
    with st.container(key="sweep-body"):
        ask, see, sight = st.columns([1.25, 2.35, 1.2], gap="medium")
    arguments = planned = None
    with ask, widgets.errors_shown():
        way = (
            st.segmented_control(
                "Arms from",
                plan_form.WAYS,
                default=state.default("arms"),
                required=True,
                label_visibility="collapsed",
                **state.bound("arms"),
            )
            or plan_form.GRID
        )
        arguments = _from_file() if way == plan_form.FILE else _from_form(way, shapes, task)
    with sight, st.container(key="sweep-preview", border=True), widgets.errors_shown():
        planned = plan_preview.show(arguments)
    with see, widgets.errors_shown():
        if (last := st.session_state.get(plan_preview.LAST)) is not None:
            sweep_card.strip(last)
        if planned is not None:
            plan_preview.arms(planned)
        else:
            widgets.html_block('<div class="cdka-quiet">The arms appear here once the plan can be read.</div>')


def _from_form(way: str, shapes: ModelShapes, task: TaskInfo) -> dict[str, Any] | None:
    """The arguments of the form; with data of one's own, their options are among the settings. None without data."""
    if not task.is_own_data:
        return plan_form.ask(way, shapes, task)
    options = picker.ask(task.name)
    arguments = plan_form.ask(way, shapes, task)
    if options is None or arguments is None:
        return None
    return arguments | {"settings": {**arguments["settings"], "task_options": options}}


def _from_file() -> dict[str, Any] | None:
    """The arguments of an uploaded or pasted plan file; None while there is neither."""
    st.session_state.setdefault("sweep-pasted", EXAMPLE)
    file = st.file_uploader("A plan file", type=["toml", "txt"], key="sweep-file", max_upload_size=1)
    if file is not None:
        return plan_document.read(file.getvalue(), file.name)
    widgets.html_block('<div class="cdka-quiet">The file names its own model and task.</div>')
    pasted = st.text_area(
        "or paste one",
        key="sweep-pasted",
        height=380,
        persist_state="session",
        help="The same file as for: cdka sweep plan.toml",
    )
    return plan_document.read(pasted.encode(), "plan.toml") if pasted.strip() else None
