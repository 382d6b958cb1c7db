"""The builder: questions on the left, the arms in the middle, on the right what a click will start."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import parts, state
from app.sweeps import draft, follow, form, preview
from cdka.models.shapes import ModelShapes
from cdka.sweep.planfile import EXAMPLE
from cdka.tasks.catalogue import TaskInfo


def page(shapes: ModelShapes, task: TaskInfo) -> None:
    """Draws the builder for a model and a task."""
    with st.container(key="sweep-body"):
        ask, see, sight = st.columns([1.25, 2.35, 1.2], gap="medium")
    arguments = planned = None
    with ask, parts.errors_shown():
        way = (
            st.segmented_control(
                "Arms from",
                form.WAYS,
                default=state.default("arms"),
                required=True,
                label_visibility="collapsed",
                **state.bound("arms"),
            )
            or form.GRID
        )
        arguments = _from_file() if way == form.FILE else form.ask(way, shapes, task)
    with sight, st.container(key="sweep-preview", border=True), parts.errors_shown():
        planned = preview.show(arguments)
    with see, parts.errors_shown():
        if (last := st.session_state.get(preview.LAST)) is not None:
            follow.strip(last)
        if planned is not None:
            preview.arms(planned)
        else:
            parts.show('<div class="cdka-quiet">The arms appear here once the plan can be read.</div>')


def _from_file() -> dict[str, Any] | None:
    """The arguments of an uploaded or pasted plan file; None while there is neither."""
    st.session_state.setdefault("sweep-pasted", EXAMPLE)
    file = st.file_uploader("A plan file", type=["toml", "txt"], key="sweep-file", max_upload_size=1)
    if file is not None:
        return draft.read(file.getvalue(), file.name)
    parts.show('<div class="cdka-quiet">The file names its own model and task.</div>')
    pasted = st.text_area(
        "or paste one",
        key="sweep-pasted",
        height=380,
        persist_state="session",
        help="The same file as for: cdka sweep plan.toml",
    )
    return draft.read(pasted.encode(), "plan.toml") if pasted.strip() else None
