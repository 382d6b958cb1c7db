"""What can be done with one run: stop and keep, cancel, retry, look at its own settings and log, order it again."""

from __future__ import annotations

import streamlit as st

from app import data
from app.finetune.form import KNOBS
from cdka.engines.local import ensure_dispatcher
from cdka.runs.record import KEPT, LIVE, QUEUED, RETRIABLE, Run

SHOWN = ("model", "task", "method", "components", "rank", "alpha", "lr", "steps", "batch_size", "seed", "schedule",
         "target_modules", "scaling_rule", "weight_decay", "warmup_ratio", "device", "dtype")  # fmt: skip


def menu(run: Run) -> None:
    """The menu of one run. Its contents are made only while it is open."""
    pop = st.popover("More", key=f"menu-{run.run_id}", on_change="rerun", help=f"Run {run.run_id}")
    if not pop.open:
        return
    with pop:
        st.caption(f"Run {run.run_id}, attempt {max(run.attempt, 1)}")
        with st.container(horizontal=True):
            if run.status in LIVE:
                _button("Stop and keep", "keep", run, _stop, True, "Evaluate now, save the adapter, finish.")
                _button("Cancel", "cancel", run, _stop, False, "Stop at once; nothing is kept.")
            elif run.status == QUEUED:
                _button("Cancel", "cancel", run, _stop, False, "Take it out of the queue.")
                _button("Next", "next", run, _next, None, "Move to the front of the queue.")
            if run.status in RETRIABLE:
                _button("Retry", "retry", run, _retry, None, "Queue it again as a new attempt.")
            _button("New run from this one", "again", run, _again, None, "Put its settings into the form.")
        if run.status in KEPT:
            st.code(str(run.adapter_dir), language=None)
        settings, log = st.tabs(["Settings", "Log"])
        stored = run.spec.to_dict()
        settings.dataframe(
            {"setting": list(SHOWN), "value": [str(stored[name]) for name in SHOWN]}, hide_index=True, height=260
        )
        log.code(data.store().log(run.run_id) or "Nothing was printed.", language=None, height=260)


def _button(label: str, name: str, run: Run, act, argument, hint: str) -> None:
    args = (run,) if argument is None else (run, argument)
    st.button(label, key=f"{name}-{run.run_id}", on_click=act, args=args, help=hint)


def _stop(run: Run, keep: bool) -> None:
    data.store().request_stop(run.run_id, keep)


def _next(run: Run) -> None:
    data.store().prioritise(run.run_id)


def _retry(run: Run) -> None:
    data.store().retry(run.run_id)
    ensure_dispatcher(data.store())


def _again(run: Run) -> None:
    label = run.spec.label.removeprefix("cdka ")
    st.session_state["basket"] = [label]
    st.session_state["on"], st.session_state["task"] = run.spec.model, run.spec.task
    st.session_state["tune-filled"] = run.spec.task
    if "data" in run.spec.task_options:
        st.session_state["data-path"] = run.spec.task_options["data"]
    for knob in KNOBS:
        value = getattr(run.spec, knob)
        st.session_state[f"tune-{knob}"] = f"{value:g}" if knob == "lr" else value
