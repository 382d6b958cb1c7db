"""The honest question of the Align room: does alignment predict how good finished runs end up?"""

from __future__ import annotations

import html

import streamlit as st

from app import charts, data, state, widgets
from app.align import alignment_figures, request_form
from cdka.align import PREDICTORS, AlignRecord, AlignRequest, does_it_predict
from cdka.errors import CdkaError
from cdka.runs.metrics import measure_of


def show(request: AlignRequest, record: AlignRecord | None) -> None:
    """A sweep's configurations: final metric against a predictor, with the rank correlation and its interval."""
    names = request_form.sweeps(request)
    if record is None:
        widgets.html_block(
            '<div class="cdka-why">So far this is theory. <b>Measure</b> backpropagates the frozen model once on real '
            "data and compares each option's first step with full fine-tuning's, layer by layer.</div>"
        )
    if not names:
        widgets.html_block(
            '<div class="cdka-figure-title">Does it predict the final result?</div><div class="cdka-quiet">'
            f"Finish a sweep of four or more configurations of {html.escape(request.model)} on "
            f"{html.escape(request.task)}: final accuracy against alignment, with a rank correlation and its interval, "
            "appears here.</div>"
        )
        if st.button("Plan such a sweep", key="align-plan"):
            state.go("sweeps", plan_model=request.model, plan_task=request.task)
        return
    first, second = st.columns(2)
    sweep = first.selectbox("Finished runs of", list(names), format_func=names.get, key="align-sweep")
    able = [p for p in PREDICTORS if record is not None or p not in ("measured", "best")]
    predictor = second.selectbox("held against", able, format_func=PREDICTORS.get, key="align-predictor")
    runs = data.store().frame(sweep_id=sweep)
    try:
        verdict = does_it_predict(runs, predictor=predictor, record=record, target_modules=request.target_modules)
    except CdkaError as reason:  # too few configurations, or runs that differ in more: no fault of the reader
        return widgets.remark(str(reason))
    drawn = alignment_figures.prediction(verdict.points, PREDICTORS[predictor], measure_of(verdict.metric))
    charts.show_altair(drawn, key="align-predicts", alt="Final accuracy against the predictor")
    first = runs.iloc[0]
    beside = ""
    if predictor != "num_params" and "num_params" in PREDICTORS:
        size = does_it_predict(runs, predictor="num_params", record=record, target_modules=request.target_modules)
        beside = (
            f" Their parameters alone: rho = {size.rho:.2f} ({size.ci_low:.2f} to {size.ci_high:.2f}), so size may "
            "explain as much."
        )
    widgets.caption(
        f"Bars: 95 % intervals. {verdict.sentence()}{beside} After {first['steps']:,} steps at learning rate "
        f"{first['lr']:g}, alpha {first['alpha']:g}: another recipe may answer otherwise."
    )
