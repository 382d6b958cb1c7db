"""Preview of a plan: runs, jobs, parameters, time, memory, notes, the same as text."""

from __future__ import annotations

import html
import json

import psutil
import streamlit as st

from app import charts, data, widgets
from app.data import launcher
from app.sweeps import arm_figure, plan_document
from cdka import formatting
from cdka.errors import CdkaError
from cdka.machine import gpus
from cdka.sweep.forecast import Forecast
from cdka.sweep.plan import Plan

LAST = "sweep-last"
MAX_ROWS = 10
"""More arms than this are scrolled through."""


def show(arguments: plan_document.Arguments | None) -> Plan | None:
    """Draws the preview with the launch button; returns the plan where there is one."""
    widgets.html_block('<div class="cdka-preview-title">This will start</div>')
    if arguments is None:
        widgets.html_block('<div class="cdka-quiet">Nothing yet: the plan has an error or is missing.</div>')
        return None
    agreed = False
    try:
        if (count := plan_document.needs_consent(arguments)) is not None:
            agreed = st.checkbox(f"Yes, up to {count:,} runs", key="sweep-consent")
        planned = plan_document.planned(arguments, allow_many=agreed)
    except CdkaError as refusal:
        widgets.error(" ".join(str(refusal).replace("Add --yes,", "Tick the box,").split()))
        return None
    _numbers(planned, data.forecast(planned, json.dumps(arguments, default=str)))
    st.button(
        f"Launch {formatting.plural(len(planned.specs), 'run')}",
        type="primary",
        width="stretch",
        key="sweep-launch",
        on_click=_launch,
        args=(arguments, agreed),
    )
    command, file = st.tabs(["Command", "Plan file"])
    line, text = plan_document.command(arguments), plan_document.toml(arguments)
    command.code(line, language="bash", wrap_lines=True)
    if plan_document.FILE in line:
        command.markdown("To run a list of arms from the command line, save it as a plan file first.")
    file.code(text, language="toml", wrap_lines=True, height=210)
    file.download_button(f"Save {plan_document.FILE}", text, plan_document.FILE, "application/toml", on_click="ignore")
    return planned


def _numbers(planned: Plan, found: Forecast) -> None:
    steps = sorted({spec.steps for spec in planned.specs})
    seeds, rates = len(planned.document["seeds"]), len(planned.document["tune_lr"])
    times = [formatting.plural(len(planned.arms), "arm"), formatting.plural(seeds, "seed")]
    times += [f"{rates} learning rates"] if rates else []
    each = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    low, high = (pick(arm.num_params for arm in planned.arms) for pick in (min, max))
    span = widgets.count_html(low) + ("" if low == high else f" to {widgets.count_html(high)}")
    widgets.html_block(
        f'<div class="cdka-big">{formatting.plural(len(planned.specs), "run")}</div>'
        f'<div class="cdka-quiet">{" × ".join(times)}, {each} steps each</div>'
        '<table class="cdka-costs">'
        + _row("jobs", f"{found.jobs:,}", "Runs that share a base train together in one process (a pack).")
        + _row("parameters", span, "Trainable parameters, from the smallest arm to the largest.")
        + _row("time", _time(found), found.time.basis)
        + _row("memory", _memory(found), "Estimated peak of the largest job.")
        + "</table>"
        + widgets.forecast_html(found)
        + "".join(map(_note, [*planned.notes, *found.notes, *_untuned(planned), *_too_large(found)]))
    )


def _note(text: str) -> str:
    """A note, at most two sentences of it; the whole on hover."""
    first, second, rest = [*widgets.sentence_case(text).split(". ", 2), "", ""][:3]
    shown = ". ".join(filter(None, (first, second))) + (". …" if rest else "")
    return f'<div class="sweep-note" title="{html.escape(text, quote=True)}">{html.escape(shown)}</div>'


def _untuned(planned: Plan) -> list[str]:
    """A baseline beside arms of several learning rates has one only: said, because the comparison is not fair."""
    rates = {arm.spec.lr for arm in planned.arms}
    matched = {arm.spec.lr for arm in planned.arms if arm.matched is not None}
    if len(rates) > 1 and matched and not planned.document["tune_lr"]:
        listed = ", ".join(f"{rate:g}" for rate in sorted(matched))
        return [f"baselines train at {listed} only: switch on Fair search to give every arm the same rates"]
    return []


def _too_large(found: Forecast) -> list[str]:
    """A job that this machine cannot hold, told before it fails; a GPU's memory is not known without torch."""
    memory = psutil.virtual_memory().total
    if gpus() or found.memory_bytes is None or found.memory_bytes <= memory:
        return []
    return [
        f"the largest job needs more memory than this machine has ({formatting.size(memory)}): it is likely to fail"
    ]


def _time(found: Forecast) -> str:
    seconds = found.time.seconds
    return "not known yet" if seconds is None else f"about {formatting.duration(seconds)}"


def _memory(found: Forecast) -> str:
    return "not known" if found.memory_bytes is None else f"about {formatting.size(found.memory_bytes)}"


def _row(name: str, value: str, hint: str) -> str:
    return f'<tr title="{html.escape(hint, quote=True)}"><td>{name}</td><td>{value}</td></tr>'


def _launch(arguments: plan_document.Arguments, agreed: bool) -> None:
    with widgets.errors_shown():
        planned = plan_document.planned(arguments, allow_many=agreed)
        st.session_state[LAST] = launcher().launch(data.store(), planned, json.dumps(arguments, default=str))


def arms(planned: Plan) -> None:
    """The arms of the plan: a figure of their sizes, and a table with the mismatch of each."""
    rows, budget = arm_figure.table(planned), arm_figure.budget_of(planned)
    word = "budget" if planned.document.get("budget") else "matched to"
    charts.show_altair(
        arm_figure.chart(rows, budget, word), key="sweep-arms", alt="Trainable parameters of every arm of the plan"
    )
    against = f"{word} {formatting.count(budget)} parameters" if budget else "from the arm of its price"
    number = st.column_config.NumberColumn
    shown = rows.drop(columns="method").assign(share=100 * rows["share"], mismatch=100 * rows["mismatch"])
    st.dataframe(
        shown.drop(columns=[name for name in ("mismatch", "alignment") if shown[name].isna().all()]),
        hide_index=True,
        placeholder="–",
        alt="The arms of the plan",
        height="content" if len(rows) <= MAX_ROWS else 380,
        column_config={
            "num_params": number("parameters", format="localized"),
            "share": number("of the model", format="%.2f %%"),
            "mismatch": number("mismatch", format="%+.1f %%", help=against),
            "alignment": number("predicted alignment", format="%.3f"),
            "lr": st.column_config.TextColumn("learning rate"),
            "alpha": number("alpha", format="%g"),
        },
    )
