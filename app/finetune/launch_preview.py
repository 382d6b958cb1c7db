"""The runs that a click will start: configurations, parameters, time, memory, notes, and the button itself."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import data, state, widgets
from app.data import launcher
from app.finetune import live_panel, run_form, run_request
from app.finetune.run_request import RunRequest
from cdka import formatting
from cdka.cost.time import PHASE_WORDS
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.runs.spec import AUTO
from cdka.sweep.forecast import Forecast, measure_runs, time_settings
from cdka.sweep.launch import check_runs
from cdka.sweep.plan import SAME_PRICE, Plan

MAX_ARMS = 8
MINUTES = (2, 10, 60)
POLL_S = 1.0
_MEASURING, _MEASURED = "tune-measuring", "tune-measured"


def show_preview(request: RunRequest | None) -> None:
    """Draws the preview and the launch button; without a request only its place."""
    widgets.html_block('<div class="cdka-preview-title">This will start</div>')
    if request is None:
        widgets.html_block('<div class="cdka-quiet">Nothing yet: the form is not complete.</div>')
        return
    try:
        plan = request.plan()
        check_runs(plan.runs)
    except CdkaError as refusal:
        widgets.error(str(refusal))
        if not find_model(request.model).embedded:
            st.button(
                f"Try them on {state.default('on')}, which trains here",
                key="tune-elsewhere",
                width="stretch",
                on_click=_elsewhere,
            )
        return
    found = data.forecast(plan, repr(request))
    settings = plan.specs[0]
    arms = "".join(
        f"<tr><td>{widgets.method_chip_html(arm.spec)}</td><td>{widgets.count_html(arm.num_params)}</td></tr>"
        for arm in plan.arms[:MAX_ARMS]
    )
    more = f"<tr><td>and {len(plan.arms) - MAX_ARMS} more</td><td></td></tr>" if len(plan.arms) > MAX_ARMS else ""
    widgets.html_block(
        f'<div class="cdka-big">{formatting.plural(len(plan.specs), "run")}</div><div class="cdka-quiet">'
        f"{formatting.plural(len(plan.arms), 'configuration')} × {formatting.plural(request.seeds, 'seed')}, "
        f"{settings.steps:,} steps each</div>"
        f'<table class="cdka-costs"><tr><th></th><th>parameters</th></tr>{arms}{more}</table>'
        f'<table class="cdka-costs">{_row("time", _time(found), found.time.basis)}{_phases(found)}'
        f"{_row('memory', _memory(found), 'Estimated peak of the largest job.')}</table>"
    )
    widgets.html_block(widgets.forecast_html(found))
    _fit_buttons(request, plan)
    advised = {one.text for one in found.advice}
    told = (*plan.notes, *_prices(plan), *_weights(request), *(one for one in found.notes if one not in advised))
    for note in dict.fromkeys(told):
        widgets.html_block(f'<div class="cdka-quiet">{html.escape(widgets.sentence_case(note))}</div>')
    for number, one in enumerate(found.advice):
        widgets.error(one.text)
        change = (request, dict(one.changes), "what was advised")
        st.button(one.label, key=f"advice-{number}", on_click=change_settings, args=change)
    st.button(
        f"Launch {formatting.plural(len(plan.specs), 'run')}",
        type="primary",
        width="stretch",
        key="launch",
        on_click=launch,
        args=(request,),
    )


def _elsewhere() -> None:
    """Keep the configurations; the model and the task are the embedded ones."""
    for name in ("on", "task"):
        st.session_state[name] = state.default(name)
    st.session_state["modules"] = list(state.default("modules"))


def _fit_buttons(request: RunRequest, plan: Plan) -> None:
    """ "I have 2, 10, 60 minutes", and the measurement of this machine that it rests on while that is made."""
    measuring = st.session_state.get(_MEASURING)
    if measuring is not None and measuring["request"] == request:
        st.fragment(_progress, run_every=POLL_S, key="tune-measuring-progress")(request)
        return
    widgets.html_block('<div class="cdka-quiet">I have</div>')
    with st.container(horizontal=True, key="tune-time"):
        for minutes in MINUTES:
            st.button(
                f"{minutes} min",
                key=f"time-{minutes}",
                on_click=_fit,
                args=(request, plan, minutes),
                help="Steps and judging are chosen so that all these runs together take about so long here.",
            )
        st.button(
            "Measure",
            key="time-measure",
            on_click=_fit,
            args=(request, plan, None),
            help="Load the model, time one update and one answer, and estimate from that.",
        )


def _fit(request: RunRequest, plan: Plan, minutes: int | None) -> None:
    """Measure what is not known yet, then choose the settings (None: measure alone); from a callback."""
    work = measure_runs(plan.runs, data.store())
    st.session_state[_MEASURING] = {"request": request, "minutes": minutes, "stream": data.Stream(work)}


def _progress(request: RunRequest) -> None:
    """The measurement at work; once it is done, its settings are applied and the page drawn anew."""
    measuring = st.session_state.get(_MEASURING)
    if measuring is None:
        st.rerun()
    stream: data.Stream = measuring["stream"]
    if not stream.done:
        phase = stream.parts.get("", {}).get("phase", "loading")
        widgets.remark(f"Measuring this machine: {phase} ...")
        if st.button("Stop measuring", key="time-stop", type="tertiary"):
            stream.stop()
            del st.session_state[_MEASURING]
            st.rerun()
        return
    del st.session_state[_MEASURING]
    st.session_state[_MEASURED] = {"request": request, "minutes": measuring["minutes"], "error": stream.error}
    st.rerun()


def apply_measured() -> None:
    """Put the settings that were fitted to a time into the form; before the form is drawn."""
    found = st.session_state.pop(_MEASURED, None)
    if found is None:
        return
    with widgets.errors_shown():
        if found["error"]:
            raise CdkaError(found["error"])
        if found["minutes"] is not None:
            request, minutes = found["request"], found["minutes"]
            chosen = time_settings(request.plan().runs, data.store(), 60.0 * minutes, smaller_batches=True)
            change_settings(request, chosen, f"a fit to {minutes} minutes")


def change_settings(request: RunRequest, changes: Mapping[str, Any], source: str) -> None:
    """Put settings into the form, and hand on those that it does not ask for; before the form is drawn."""
    others = {}
    for name, value in changes.items():
        if name in run_form.KNOBS:
            st.session_state[f"tune-{name}"] = 0 if value == AUTO else value
        else:
            others[name] = value
    if others:
        run_request.carry(source, request.model, request.task, others, keep=True)


def launch(request: RunRequest) -> None:
    """Start the runs once, and show them."""
    with widgets.errors_shown():
        live_panel.show(launcher().launch(data.store(), request.plan(), repr(request)))


def _weights(request: RunRequest) -> list[str]:
    """The source and the size of the weights of a model that does not ship with the program."""
    shapes = find_model(request.model)
    if not shapes.hub_id:
        return []
    size = formatting.size(2 * shapes.base_params)
    return [f"the weights, about {size}, are taken from this machine, or else from the Hub first: {shapes.hub_id}."]


def _prices(plan: Plan) -> list[str]:
    """The arms that each matched baseline costs as much as, or how near it comes."""
    lines = []
    for arm in plan.arms:
        if arm.matched is not None and arm.spec.method != "full":
            equal = [
                other.spec.label
                for other in plan.arms
                if other.matched is None and 0 <= other.num_params / arm.matched.budget - 1 <= SAME_PRICE
            ]
            gap = arm.matched.mismatch
            near = "costs as much as" if abs(gap) <= SAME_PRICE else f"comes nearest ({gap:+.0%}) to"
            lines.append(f"{arm.spec.label} {near} {', '.join(equal)}.")
    return lines if len(plan.arms) > 2 else []


def _time(found: Forecast) -> str:
    low, high = found.time.low_s, found.time.high_s
    if low is None or high is None:
        return "not known yet"
    ends = formatting.duration(low), formatting.duration(high)
    return f"about {ends[0]}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _phases(found: Forecast) -> str:
    """A row for each phase that takes a second or more, all runs together."""
    return "".join(
        _row(f"&nbsp; {PHASE_WORDS[phase]}", formatting.duration(seconds), "All runs together, one after the other.")
        for phase, seconds in found.time.phases.items()
        if seconds >= 1.0
    )


def _memory(found: Forecast) -> str:
    return "not known" if found.memory_bytes is None else f"about {formatting.size(found.memory_bytes)}"


def _row(name: str, value: str, hint: str) -> str:
    return f'<tr title="{html.escape(hint, quote=True)}"><td>{name}</td><td>{value}</td></tr>'
