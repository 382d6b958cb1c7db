"""Align: what theory predicts, what a real gradient says, layer by layer, and whether it matters in the end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import streamlit as st

from app import charts, comparison_list, configurations, state, theme, widgets
from app.align import alignment_figures, alignment_tables, outcome, request_form
from app.owndata.preview import show_data
from cdka import align
from cdka.compare.figures.alignment import agreement_figure

state.arrive("align")
widgets.heading("Align", "How closely does the first step follow full fine-tuning's?")
MAP = "align-map"
BARGAIN = "What parameters buy"
VIEWS = ("Predicted against measured", BARGAIN)


def _switch(label: str, titles: Mapping[str, str], first: int, *, key: str) -> str:
    """Asks for one of several figures by its title."""
    names = list(titles)
    chosen = st.segmented_control(
        label,
        names,
        default=names[first],
        required=True,
        format_func=titles.get,
        key=key,
        label_visibility="collapsed",
    )
    return chosen or names[first]


with st.container(key="align-body"):
    left, middle, right = st.columns([1.0, 2.05, 1.95], gap="medium")

request = record = None
path = request_form.LAYERS
with left, widgets.errors_shown():
    asked = request_form.request()
    if asked is not None:
        chosen = request_form.components(asked)
        status = request_form.measure(asked)
        record = align.load(asked) if status.state == "done" else None
        if record is not None:
            paths = record.spectra_frame()["path"].tolist()
            path = st.selectbox("Map of", [request_form.LAYERS, *paths], key="align-layer")
        if st.button("Open in Design", width="stretch", key="align-design", help="The selected option, with its costs"):
            state.go("design", model=asked.model, r1=chosen.r1, r2=chosen.r2, r=chosen.r)
        if st.button("Compare this option", width="stretch", key="align-add", help="Carried to Fine-tune"):
            comparison_list.add(str(chosen))
            st.toast(f"{configurations.label(str(chosen))} will be compared.")
        request = asked

if request is not None and request.task_options:
    with middle, widgets.errors_shown():
        show_data(request.model, request.task, dict(request.task_options), None)

if request is not None:
    if record is None:
        rows = alignment_tables.predicted(request)
    elif path == request_form.LAYERS:
        rows = record.overall_frame()
    else:
        rows = alignment_tables.layer_rows(record, path)
    with middle, widgets.errors_shown():
        kind = "predicted" if record is None else _switch("Shown", alignment_figures.KINDS, 1, key="align-kind")
        top = 1.0 if kind == "best" else float(rows[["predicted", "measured"]].max().max())
        charts.show_altair(
            alignment_figures.map_of(rows, kind, request, chosen, top),
            key=MAP,
            on_select=partial(request_form.clicked, MAP),
            alt=f"{kind} alignment by r1 and r2",
        )
        widgets.caption(
            f"r = {chosen.r}. Below each value, trainable parameters; along a white line, as many as LoRA of that "
            "rank. Click a cell to look closer."
        )
        layers = alignment_tables.layers(request, record, chosen)
        charts.show_altair(
            alignment_figures.by_layer(layers, chosen), key="align-layers", alt="Alignment of each layer"
        )
        widgets.caption(alignment_figures.layers_caption(record, layers))
    with right, widgets.errors_shown():
        view = BARGAIN if record is None else _switch("Figure", {name: name for name in VIEWS}, 0, key="align-view")
        if view == BARGAIN:
            bought = alignment_figures.bargain(rows, alignment_tables.lora(request, rows), chosen)
            charts.show_altair(bought, key="align-cost", alt="Alignment against parameters by r")
            widgets.caption(
                "Each coloured line starts at r2 = r1 and doubles r2/r1 from point to point; LoRA adds rank instead. "
                "Higher at equal cost: the first step follows full fine-tuning's more closely."
            )
        else:
            charts.show(
                agreement_figure(rows, chosen, request.step, theme=theme.current()),
                key="align-agree",
                theme=None,
                alt="Predicted against measured alignment",
            )
            widgets.caption(
                f"Bold: r = {chosen.r}; ring: the selected option; bars: spread over {request.inits} initialisations; "
                f"{record.sampled_modules} of {record.target_modules} layers."
            )
        outcome.show(request, record)
