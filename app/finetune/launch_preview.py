"""What a click will start, told before it: runs, parameters, time, memory, and the button itself."""

from __future__ import annotations

import html
from statistics import median

import streamlit as st

from app import data, widgets
from app.finetune import live_panel
from app.finetune.run_request import Launcher, Order
from cdka import formatting
from cdka.errors import CdkaError
from cdka.runs.states import KEPT
from cdka.runs.store import Store
from cdka.sweep.plan import Plan

MOST_ARMS = 8


def show(order: Order | None) -> None:
    """Draws the preview and the launch button; without an order only its place."""
    widgets.html_block('<div class="cdka-preview-title">This will start</div>')
    if order is None:
        widgets.html_block('<div class="cdka-quiet">Nothing yet: the form is not complete.</div>')
        return
    try:
        plan = order.plan()
    except CdkaError as refusal:
        widgets.error(str(refusal))
        return
    store = data.store()
    settings = plan.specs[0]
    pace = pace_s(store, order.model, order.task)
    arms = "".join(
        f"<tr><td>{widgets.method_chip_html(arm.spec)}</td><td>{widgets.count_html(arm.num_params)}</td></tr>"
        for arm in plan.arms[:MOST_ARMS]
    )
    more = f"<tr><td>and {len(plan.arms) - MOST_ARMS} more</td><td></td></tr>" if len(plan.arms) > MOST_ARMS else ""
    widgets.html_block(
        f'<div class="cdka-big">{formatting.plural(len(plan.specs), "run")}</div><div class="cdka-quiet">'
        f"{formatting.plural(len(plan.arms), 'configuration')} × {formatting.plural(order.seeds, 'seed')}, "
        f"{settings.steps:,} steps each</div>"
        f'<table class="cdka-costs"><tr><th></th><th>parameters</th></tr>{arms}{more}</table>'
        f'<table class="cdka-costs">{_row("time", _time(plan, pace))}'
        f"{_row('memory per run', _memory(store, order))}</table>"
    )
    for note in plan.notes:
        widgets.html_block(f'<div class="cdka-quiet">{html.escape(note)}</div>')
    st.button(
        f"Launch {formatting.plural(len(plan.specs), 'run')}",
        type="primary",
        width="stretch",
        key="launch",
        on_click=launch,
        args=(order,),
    )


def launch(order: Order) -> None:
    """Queue the order once, see that somebody works on it, and show it."""
    with widgets.errors_shown():
        launcher: Launcher = st.session_state.setdefault("tune-launcher", Launcher())
        store = data.store()
        live_panel.show(launcher.launch(store, order))


def pace_s(store: Store, model: str, task: str) -> float | None:
    """Seconds of wall time per step in the last kept runs on this model and task; None where there are none."""
    past = [run for run in store.runs(status=KEPT) if (run.spec.model, run.spec.task) == (model, task)][-20:]
    times = [run.seconds / run.step for run in past if run.seconds and run.step]
    return median(times) if times else None


def _time(plan: Plan, pace: float | None) -> str:
    if pace is None:
        return "known after the first run"
    total = pace * sum(spec.steps for spec in plan.specs)
    return f"about {formatting.duration(total)} in sequence"


def _memory(store: Store, order: Order) -> str:
    peaks = [
        run.peak_bytes
        for run in store.runs(status=KEPT)
        if run.peak_bytes and (run.spec.model, run.spec.task) == (order.model, order.task)
    ]
    return f"{formatting.size(max(peaks[-20:]))}, as measured" if peaks else "known after the first run"


def _row(name: str, value: str) -> str:
    return f"<tr><td>{name}</td><td>{value}</td></tr>"
