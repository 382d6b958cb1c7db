"""Fine-tune: order runs, watch them live, stop, keep, retry. Everything shown comes from the store."""

from __future__ import annotations

import streamlit as st

from app import data, state, widgets
from app.finetune import launch_preview, live_panel, run_form, try_panel
from app.owndata.preview import show_data
from cdka.engine import local

values = state.arrive("finetune")
widgets.heading("Fine-tune", "Train configurations side by side and watch them live.")
store = data.store()
local.warm(store)  # so that a run starts a fraction of a second after the click

with st.container(key="tune-body"):
    ask, see, sight = st.columns([1.1, 2.75, 1.05], gap="medium")

with see:
    own_data, live = st.container(), st.container()  # the runs are drawn first: on a phone they stand above the form
with live, widgets.errors_shown():
    show = live_panel.picker(store, values["show"])
    if live_panel.chosen_runs(store, show):
        live_panel.panel(store, show)
        try_panel.show(store, live_panel.chosen_runs(store, show))
    elif not live_panel.searched(show):
        example = run_form.example()
        widgets.empty_state(
            "Nothing has been trained here yet",
            "An example to start with: cdka 2,8,1 against LoRA of equal cost on flipped digits, one seed each. "
            "Curves appear here as soon as the first step is done.",
            f"Train the example, {len(example.plan().specs)} runs",
            lambda: launch_preview.launch(example),
            key="tune",
        )

request = None
launch_preview.apply_measured()
with ask, widgets.errors_shown():
    request = run_form.request_form()

with sight, st.container(key="tune-preview", border=True), widgets.errors_shown():
    launch_preview.show_preview(request)

if request is not None and request.task.startswith("local-"):
    with own_data, widgets.errors_shown():
        asked = dict(request.settings)
        show_data(request.model, request.task, asked["task_options"], asked.get("max_length"))
