"""A new run from one that was: all its settings, through the form, so that they can be changed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.finetune import run_request
from app.finetune.run_form import KNOBS
from cdka.runs.resolve import spec_for
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec

_ELSEWHERE = (*KNOBS, "model", "task", "method", "components", "rank", "device")
"""Said by other parts of the form, or for the machine to decide."""


def order_again(run: Run) -> None:
    """Put a run's settings into the form, alone; from a callback. Its seed and all it had beside come along."""
    spec = run.spec
    st.session_state["basket"] = [_entry(spec)]
    st.session_state["on"], st.session_state["task"] = spec.model, spec.task
    st.session_state["tune-filled"] = spec.task
    st.session_state["tune-baselines"], st.session_state["tune-seeds"] = [], 1
    for knob in KNOBS:
        value = getattr(spec, knob)
        st.session_state[f"tune-{knob}"] = f"{value:g}" if knob == "lr" else value
    if "data" in spec.task_options:
        st.session_state["data"] = spec.task_options["data"]
    run_request.carry(run.run_id, spec.model, spec.task, beside(spec))


def _entry(spec: RunSpec) -> str:
    if spec.components is not None:
        return str(spec.components)
    return spec.method if spec.rank is None else f"{spec.method} {spec.rank}"


def beside(spec: RunSpec) -> dict[str, Any]:
    """The settings of ``spec`` that the form does not ask for and that are not what they would be by default."""
    usual = spec_for(spec.model, spec.task, method=spec.method, steps=spec.steps, task_options=spec.task_options)
    skipped = (*_ELSEWHERE, "task_options") if "data" in spec.task_options else _ELSEWHERE
    return {name: v for name, v in vars(spec).items() if name not in skipped and v != getattr(usual, name)}
