"""Align: what theory predicts, what a real gradient says, and whether it matters in the end."""

from __future__ import annotations

import streamlit as st

from app import data, parts, state
from app.align import ask, figures, numbers
from cdka import align
from cdka.align import PREDICTORS, does_it_predict
from cdka.errors import CdkaError

state.arrive("align")

with st.container(key="align-body"):
    left, middle, right = st.columns([1.0, 2.1, 1.9], gap="medium")

request = record = None
with left, parts.errors_shown():
    request = ask.request()
    r = ask.components(request)
    status = ask.measure(request)
    record = align.load(request) if status.state == "done" else None
    path = ask.LAYERS
    if record is not None:
        paths = record.spectra_frame()["path"].tolist()
        path = st.selectbox("Look at", [ask.LAYERS, *paths], key="align-layer")

if request is not None:
    if record is None:
        rows = numbers.predicted(request)
    elif path == ask.LAYERS:
        rows = record.overall_frame()
    else:
        rows = numbers.layer_rows(record, path)
    with middle, parts.errors_shown():
        kinds = list(figures.KINDS) if record is not None else ["predicted"]
        kind = st.segmented_control(
            "Shown", kinds, default=kinds[min(1, len(kinds) - 1)], required=True, format_func=figures.KINDS.get,
            key=f"align-kind-{len(kinds)}", label_visibility="collapsed",
        )  # fmt: skip
        top = 1.0 if kind == "best" else float(rows[["predicted", "measured"]].max().max())
        st.altair_chart(figures.map_of(rows, kind, r, top), key="align-map", alt=f"{kind} alignment by r1 and r2")
        parts.caption(
            f"r = {r}. Second line of a cell: trainable parameters, all modules. Colours from 0 to {top:.2f}."
        )
        if record is not None:
            spectra = record.spectra_frame()
            st.dataframe(
                spectra, hide_index=True, height=150, alt="The gradient of each layer: size, energy, effective rank",
                column_config={"energy": st.column_config.NumberColumn(format="%.2g", help="squared norm")},
            )  # fmt: skip
    with right, parts.errors_shown():
        if record is None:
            st.altair_chart(figures.equal_cost(rows, r), key="align-cost", alt="Alignment against parameters by r1")
            parts.show(
                "<p>So far this is theory. <b>Measure</b> backpropagates the frozen model once on real data and "
                "compares each option's first step with full fine-tuning's, layer by layer.</p>"
            )
        else:
            st.altair_chart(figures.agreement(rows, r), key="align-agree", alt="Predicted against measured alignment")
            parts.caption(
                f"{request.inits} initialisations each; {record.sampled_modules} of {record.target_modules} layers."
            )
        names = ask.sweeps()
        if names:
            first, second = st.columns(2)
            sweep = first.selectbox("Finished runs of", list(names), format_func=names.get, key="align-sweep")
            able = PREDICTORS if record is not None else [p for p in PREDICTORS if p not in ("measured", "best")]
            predictor = second.selectbox("held against", able, key="align-predictor")
            try:
                verdict = does_it_predict(data.store().frame(sweep_id=sweep), predictor=predictor, record=record)
            except CdkaError as reason:  # too few configurations, or runs that differ in more: no fault of the reader
                parts.quiet(str(reason))
            else:
                drawn = figures.prediction(verdict.points, predictor, verdict.metric)
                st.altair_chart(drawn, key="align-predicts", alt="Final accuracy against the predictor")
                parts.caption(verdict.sentence())
        else:
            parts.quiet(
                "Does alignment predict the final accuracy? Finish a sweep of four or more configurations, and it is "
                "tested here."
            )
