"""Asks whose gradient is measured and how; starts the measurement in a process of its own."""

from __future__ import annotations

import streamlit as st

from app import data, form_memory, state, widgets
from app.align.alignment_figures import PICKED
from app.owndata import picker
from app.pickers import model_picker, task_picker
from cdka import align, formatting
from cdka.align import AlignRequest, Status
from cdka.components import Components
from cdka.models.catalogue import find_model
from cdka.models.targets import ROLE_TARGETS, target_names
from cdka.stats.rank_correlation import MIN_POINTS

LAYERS = "All layers"
HELP = {
    "r1": "rows of each A_i: costs alignment, buys rank",
    "r2": "columns of each B_i: buys alignment",
    "r": "components summed",
}
STEPS = {
    "gradient": "plain gradient",
    "projection": "best in the span of A",
    "adam": "signs, as Adam's",
}
"""Kinds of first step."""


def request() -> AlignRequest | None:
    """The measurement asked for, with its grid filled in; None while no data are named.

    Raises CdkaError for what cannot be measured.
    """
    shapes = model_picker("align_model", help="Its weights must be on this machine; embedded models always are.")
    model = shapes.name
    task = task_picker("align_task", shapes)
    options = picker.data_form(task.name) if task.is_own_data else {}
    left, right = st.columns(2, gap="small")
    batches = left.number_input("Batches", 1, 64, 1, **form_memory.kept("align-batches"))
    inits = right.number_input(
        "Initialisations",
        1,
        50,
        5,
        **form_memory.kept("align-inits"),
        help="Random draws of A for every option; their spread is shown.",
    )
    step = st.selectbox(
        "First step",
        list(STEPS),
        format_func=STEPS.get,
        **form_memory.kept("align-step"),
        help="Which update is compared with full fine-tuning's.",
    )
    roles = [role for role in ROLE_TARGETS if role == ROLE_TARGETS[0] or role in target_names(shapes)]
    modules = st.selectbox(
        "Modules", roles, index=0, **form_memory.kept("align-modules"), help="Whose gradients are measured."
    )
    if options is None:
        return None
    return AlignRequest(
        model=model,
        task=task.name,
        batches=int(batches),
        inits=int(inits),
        step=step,
        target_modules=modules,
        task_options=options,
    ).with_grid()


def components(request: AlignRequest) -> Components:
    """The selected option: one value of each axis of the grid. A click on the map sets r1 and r2."""
    chosen = {}
    for name in ("r1", "r2", "r"):
        key, values = f"align_{name}", list(getattr(request, f"{name}_values"))
        wanted = st.session_state.get(key, st.query_params.get(key, state.default(key)))
        nearest = min(values, key=lambda value, wanted=int(wanted): abs(value - wanted))
        if key in st.session_state and st.session_state[key] != nearest:
            st.session_state[key] = nearest
        if len(values) == 1:
            chosen[name] = values[0]
            continue
        given = {} if key in st.session_state else {"value": nearest}
        chosen[name] = st.select_slider(name, values, **given, **state.bound(key), help=HELP[name])
    return Components(**chosen)


def clicked(key: str) -> None:
    """Look at the cell of the map that was clicked."""
    cells = st.session_state[key]["selection"].get(PICKED) or []
    for cell in cells[:1]:
        for name in ("r1", "r2"):
            st.session_state[f"align_{name}"] = int(cell[name])


def measure(request: AlignRequest) -> Status:
    """The state of the measurement, with the button or the progress that belongs to it."""
    now = align.status(request)
    if now.state == "failed":
        widgets.error(f"The measurement failed: {now.cause}")
    if now.state in ("absent", "failed"):
        shapes = find_model(request.model)
        if not shapes.embedded:
            widgets.remark(f"It loads the model, {formatting.size(4 * shapes.base_params)} in float32, into memory.")
        st.button(
            "Measure on a real gradient",
            type="primary",
            width="stretch",
            on_click=_start,
            args=(request,),
            key="measure",
            help="Backpropagates the frozen model once, in its own process, and keeps the gradients.",
        )
    elif now.state == "running":
        st.fragment(_progress, run_every=0.7, key="align-progress")(request)
    else:
        widgets.remark("Measured, and kept: it is shown at once next time.")
    return now


def sweeps(request: AlignRequest) -> dict[str, str]:
    """The sweeps whose runs may be held against alignment, id to name: on this model and data, many arms first."""
    able = []
    for sweep in data.store().sweeps(limit=100):
        base = sweep.plan.get("base", sweep.plan)
        settings = base.get("settings") or base
        digest = (settings.get("task_options") or {}).get("sha256")
        on_the_same = (request.model, request.task, request.task_options.get("sha256"))
        if (base.get("model"), base.get("task"), digest) == on_the_same:
            able.append(sweep)
    able.sort(key=lambda sweep: len(sweep.plan.get("arms", ())) < MIN_POINTS)
    return {sweep.sweep_id: sweep.name for sweep in able}


def _start(request: AlignRequest) -> None:
    with widgets.errors_shown():
        align.start(request)


def _progress(request: AlignRequest) -> None:
    now = align.status(request)
    text = f"{now.phase or 'starting'}, {formatting.clock(now.elapsed_s)}"
    if now.share > 0.1:
        text += f", about {formatting.clock(now.elapsed_s * (1 - now.share) / now.share)} left"
    st.progress(min(1.0, now.share), text=text)
    st.button("Cancel", key="align-cancel", on_click=align.cancel, args=(request,), help="Nothing of it is kept.")
    if now.state != "running":
        st.rerun()
