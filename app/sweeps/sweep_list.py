"""All sweeps of this home: search, rename, note, tags, repeat, stop, delete; links to watch and compare them."""

from __future__ import annotations

import html
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from app import data, widgets
from app.pickers import filter_form
from app.sweeps import sweep_card
from app.sweeps.sweep_card import progress, progress_html
from cdka import formatting
from cdka.runs.run import Sweep
from cdka.runs.store import Store
from cdka.sweep.launch import repeat

PAGE = 8
STATES = {"under way": False, "finished": True}


def page() -> None:
    """Draws the list; polls while one of the shown sweeps is under way."""
    store = data.store()
    if not store.count_sweeps():
        return widgets.remark("No sweep yet: build one, or run a study.")
    wanted = filter_form(
        "sweep-list",
        store.values_of("model"),
        store.values_of("task"),
        STATES,
        placeholder="name, tag, note or day (2026-11-28)",
    )
    asked: dict[str, Any] = {
        "settings": {"model": wanted.model, "task": wanted.task},
        "text": wanted.text,
        "since": wanted.since,
    }
    asked["finished"] = STATES.get(wanted.state or "")
    number_found = store.count_sweeps(**asked)
    if not number_found:
        return widgets.remark("No sweep here matches.")
    first = 0
    if number_found > PAGE:
        pages = -(-number_found // PAGE)
        number = st.number_input(f"Page, of {pages}", 1, pages, 1, key="sweep-list-page", width=160)
        first = (int(number) - 1) * PAGE
    found = store.sweeps(**asked, limit=PAGE, offset=first)
    shown = [sweep.sweep_id for sweep in found]
    busy = any(not sweep.finished for sweep in found)
    widgets.remark(f"{formatting.plural(number_found, 'sweep')}, newest first.")
    st.fragment(_rows, run_every=sweep_card.EVERY_S if busy else None, key="sweep-list-rows")(shown, busy)


def place_of(sweep: Sweep) -> tuple[str, str]:
    """The model and the task of a sweep, empty where its plan names none."""
    base = sweep.plan.get("base", sweep.plan)
    return str(base.get("model", sweep.plan.get("model", ""))), str(base.get("task", sweep.plan.get("task", "")))


def _rows(sweep_ids: Sequence[str], busy: bool) -> None:
    with widgets.errors_shown():
        known = {sweep.sweep_id: sweep for sweep in data.store().sweeps(ids=sweep_ids)}
        shown = [known[sweep_id] for sweep_id in sweep_ids if sweep_id in known]
        for sweep in shown:
            _row(sweep)
    if busy and all(sweep.finished for sweep in shown):
        st.rerun()


def _row(sweep: Sweep) -> None:
    store = data.store()
    model, task = place_of(sweep)
    place = f"{model} on {task} · " if model and task else ""  # a script's own sweep may name neither
    tags = "".join(f'<span class="cdka-state wait">{html.escape(tag)}</span>' for tag in sweep.tags)
    note = f'<div class="cdka-quiet">{html.escape(sweep.note)}</div>' if sweep.note else ""
    with st.container(horizontal=True, vertical_alignment="center", key=f"row-sweep-{sweep.sweep_id}", gap="small"):
        widgets.html_block(
            f"<div><b>{html.escape(sweep.name)}</b> {tags}</div>{note}"
            f'<div class="cdka-quiet">{html.escape(place)}{formatting.date(sweep.created_at)}'
            f"{progress_html(progress(store.runs(sweep_id=sweep.sweep_id)))}</div>"
        )
        sweep_card.links(sweep)
        pop = st.popover("More", key=f"sweep-menu-{sweep.sweep_id}", on_change="rerun")
        if pop.open:
            with pop, widgets.errors_shown():
                _menu(store, sweep)


def _menu(store: Store, sweep: Sweep) -> None:
    key = sweep.sweep_id
    st.text_input("Name", sweep.name, key=f"sweep-name-{key}", on_change=_guarded(_rename), args=(key,))
    st.text_area("Note", sweep.note, key=f"sweep-note-{key}", height=80, on_change=_guarded(_annotate), args=(key,))
    known = sorted({tag for other in store.sweeps() for tag in other.tags})
    st.multiselect(
        "Tags",
        known,
        default=list(sweep.tags),
        accept_new_options=True,
        select_all=False,
        key=f"sweep-tags-{key}",
        on_change=_guarded(_tag),
        args=(key,),
        placeholder="type a tag",
    )
    with st.container(horizontal=True):
        if sweep.finished:
            st.button("Repeat", key=f"sweep-repeat-{key}", on_click=_guarded(_repeat), args=(key,))
        else:
            stop = partial(sweep_card.stop, keep=True)
            st.button("Stop and keep", key=f"sweep-stop-{key}", on_click=_guarded(stop), args=(key,))
            st.button("Cancel", key=f"sweep-cancel-{key}", on_click=_guarded(sweep_card.cancel), args=(key,))
        if st.session_state.get(f"sweep-sure-{key}"):
            st.button("Delete for good", key=f"sweep-delete-{key}", on_click=_guarded(_delete), args=(key,))
        else:
            st.button("Delete", key=f"sweep-ask-{key}", on_click=_ask, args=(key,), help="Asks once more.")
    st.caption(f"Sweep {key}")


def _guarded(act: Callable[..., None]) -> Callable[..., None]:
    """``act`` as a callback whose refusal is shown."""

    def callback(*args: str) -> None:
        with widgets.errors_shown():
            act(*args)

    return callback


def _rename(key: str) -> None:
    data.store().describe_sweep(key, name=st.session_state[f"sweep-name-{key}"])


def _annotate(key: str) -> None:
    data.store().describe_sweep(key, note=st.session_state[f"sweep-note-{key}"])


def _tag(key: str) -> None:
    data.store().describe_sweep(key, tags=st.session_state[f"sweep-tags-{key}"])


def _repeat(key: str) -> None:
    asked = st.session_state.setdefault(f"sweep-repeat-id-{key}", uuid.uuid4().hex)
    repeat(data.store(), key, request_id=asked)
    st.session_state.pop(f"sweep-repeat-id-{key}", None)


def _ask(key: str) -> None:
    st.session_state[f"sweep-sure-{key}"] = True


def _delete(key: str) -> None:
    data.store().remove_sweep(key)
    st.session_state.pop(f"sweep-sure-{key}", None)
