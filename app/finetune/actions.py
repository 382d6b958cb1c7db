"""Buttons for runs: stop and keep, cancel, retry, run next, remove, launch again, and a new run from one that was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from app import data, widgets
from app.finetune import run_request
from app.finetune.run_form import KNOBS
from cdka.engine.local import ensure_dispatcher
from cdka.runs.resolve import spec_for
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState

_ELSEWHERE = (*KNOBS, "model", "task", "method", "components", "rank", "device", "engine")
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
        st.session_state["data-path"] = spec.task_options["data"]
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


def buttons(run: Run) -> None:
    """Actions on this run in its state."""
    with st.container(horizontal=True):
        if run.status.is_live():
            _button("Stop and keep", "keep", run, _stop, True, help="Evaluate now, save the adapter, finish.")
            _button("Cancel", "cancel", run, _stop, False, help="Stop at once; nothing is kept.")
        elif run.status == RunState.QUEUED:
            _button("Cancel", "cancel", run, _stop, False, help="Take it out of the queue.")
            _button("Run next", "next", run, _next, help="Move it to the front of the queue.")
        if run.status.can_retry():
            _button("Retry", "retry", run, _retry, help="Queue it again as a new attempt, from its last checkpoint.")
        _button("New run from this one", "again", run, order_again, help="Put its settings into the form.")
        if run.status.is_finished():
            if st.session_state.get(_sure(run)):
                _button("Remove for good", "remove", run, _remove, help="Deletes its record, curves, log and adapter.")
            else:
                _button("Remove", "ask", run, _ask, help="Remove this run (you will be asked to confirm).")


def for_all(unfinished: Sequence[Run]) -> None:
    """Actions on all shown runs that have not ended."""
    at_work = [run.run_id for run in unfinished if run.status.is_live()]
    waiting = [run.run_id for run in unfinished if run.status == RunState.QUEUED]
    pop = st.popover("Stop all", key="menu-all", on_change="rerun", help="Stop or cancel all the runs shown")
    if not pop.open:
        return
    with pop, st.container(horizontal=True):
        for label, key, some, keep in (
            (f"Stop {len(at_work)} running, keep results", "all-keep", at_work, True),
            (f"Cancel {len(waiting)} waiting", "all-waiting", waiting, False),
            (f"Cancel all {len(unfinished)}", "all-cancel", [*waiting, *at_work], False),
        ):
            if some:
                st.button(label, key=key, on_click=_errors_shown(_stop_all), args=(some, keep))


def _errors_shown(act: Callable[..., None]) -> Callable[..., None]:
    """``act`` as a callback whose refusal (a run that ended or was removed meanwhile, a full disk) is shown."""

    def callback(*args: object) -> None:
        with widgets.errors_shown():
            act(*args)

    return callback


def _button(label: str, name: str, run: Run, act: Callable[..., None], *more: object, help: str) -> None:
    st.button(label, key=f"{name}-{run.run_id}", on_click=_errors_shown(partial(act, run)), args=more, help=help)


def _sure(run: Run) -> str:
    return f"sure-{run.run_id}"


def _stop(run: Run, keep: bool) -> None:
    data.store().request_stop(run.run_id, keep)


def _stop_all(run_ids: Sequence[str], keep: bool) -> None:
    data.store().request_stops(run_ids, keep)  # those that were removed meanwhile are not among them


def _next(run: Run) -> None:
    data.store().prioritise(run.run_id)


def _retry(run: Run) -> None:
    data.store().retry(run.run_id)
    ensure_dispatcher(data.store())


def _ask(run: Run) -> None:
    st.session_state[_sure(run)] = True


def _remove(run: Run) -> None:
    data.store().remove(run.run_id)
    st.session_state.pop(_sure(run), None)
