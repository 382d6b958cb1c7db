"""The runs that a click will start: configurations, parameters, time, memory, notes, and the button itself."""

from __future__ import annotations

import html

import streamlit as st

from app import configurations, data, state, widgets
from app.data import launcher
from app.finetune import live_panel
from app.finetune.run_request import RunRequest
from cdka import formatting
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.sweep.launch import Forecast, check_runs
from cdka.sweep.plan import SAME_PRICE, Plan

MAX_ARMS = 8


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
        f'<table class="cdka-costs">{_row("time", _time(found), found.time.basis)}'
        f"{_row('memory', _memory(found), 'Estimated peak of the largest job.')}</table>"
    )
    for note in dict.fromkeys([*plan.notes, *_prices(plan), *found.notes]):
        widgets.html_block(f'<div class="cdka-quiet">{html.escape(widgets.sentence_case(note))}</div>')
    if found.fits is False:
        widgets.error("The largest job needs more memory than this machine has: it is likely to fail.")
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


def launch(request: RunRequest) -> None:
    """Start the runs once, and show them."""
    with widgets.errors_shown():
        live_panel.show(launcher().launch(data.store(), request.plan(), repr(request)))


def _prices(plan: Plan) -> list[str]:
    """The arms that each matched baseline costs as much as, or how near it comes."""
    lines = []
    for arm in plan.arms:
        if arm.matched is not None and arm.spec.method != "full":
            equal = [
                configurations.pretty(other.spec.label)
                for other in plan.arms
                if other.matched is None and 0 <= other.num_params / arm.matched.budget - 1 <= SAME_PRICE
            ]
            gap = arm.matched.mismatch
            near = "costs as much as" if abs(gap) <= SAME_PRICE else f"comes nearest ({gap:+.0%}) to"
            lines.append(f"{configurations.pretty(arm.spec.label)} {near} {', '.join(equal)}.")
    return lines if len(plan.arms) > 2 else []


def _time(found: Forecast) -> str:
    seconds = found.time.seconds
    return "not known yet" if seconds is None else f"about {formatting.duration(seconds)}"


def _memory(found: Forecast) -> str:
    return "not known" if found.memory_bytes is None else f"about {formatting.size(found.memory_bytes)}"


def _row(name: str, value: str, hint: str) -> str:
    return f'<tr title="{html.escape(hint, quote=True)}"><td>{name}</td><td>{value}</td></tr>'
