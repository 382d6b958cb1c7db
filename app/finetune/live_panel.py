"""The runs on screen: curves first, then a row each. One fragment asks the store for what is new, once a second."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import state, widgets
from app.finetune import actions, race_curves, run_rows
from app.finetune.feed import Feed
from app.finetune.run_menu import menu
from cdka import formatting
from cdka.cost.time import time_left_s
from cdka.engine.local import ensure_dispatcher
from cdka.runs.run import Run
from cdka.runs.states import LIVE, RunState
from cdka.runs.store import Store
from cdka.tasks.catalogue import TASKS

EVERY_S = 1.0
MOST_ROWS = 8
SHOW = "tune-show"
MOST_CURVES = 24


def chosen_runs(store: Store, show: str) -> list[Run]:
    """The runs that ``show`` names: ``now`` is all at work and waiting, else the newest sweep; ``all``; or a sweep."""
    if show == "all":
        return store.runs()
    if show != "now":
        return store.runs(sweep_id=show)
    active = store.runs(status=(*LIVE, RunState.QUEUED))
    if active:
        sweeps = {run.sweep_id for run in active}
        return [run for sweep in sweeps for run in (store.runs(sweep_id=sweep) if sweep else active)]
    newest = store.sweeps()[:1]
    return store.runs(sweep_id=newest[0].sweep_id) if newest else store.runs()[-MOST_ROWS:]


def picker(store: Store, asked: str) -> str:
    """Asks which runs to show; ``asked`` is what the URL says."""
    sweeps = {sweep.sweep_id: sweep for sweep in store.sweeps()[:200]}
    options = ["now", *sweeps, "all"]
    if state.heard("show", asked):
        st.session_state[SHOW] = asked
    if st.session_state.get(SHOW, "now") not in options:
        st.session_state[SHOW] = "now"
    names = {"now": "At work, else the newest", "all": "All runs"}
    return st.selectbox(
        "Shown",
        options,
        format_func=lambda key: names.get(key) or f"{sweeps[key].name} ({key})",
        key=SHOW,
        label_visibility="collapsed",
        persist_state="session",
        on_change=_shown,
    )


def _shown() -> None:
    state.put("show", st.session_state[SHOW])


def show(sweep_id: str) -> None:
    """Show this sweep; from a callback."""
    st.session_state[SHOW] = sweep_id
    state.put("show", sweep_id)


def panel(store: Store, show: str) -> None:
    """The live panel; polls while something is at work, and comes to rest by itself."""
    busy = any(not run.status.is_finished() for run in chosen_runs(store, show))
    with st.container(key="tune-panel"):
        st.fragment(_panel, run_every=EVERY_S if busy else None, key="tune-live")(store, show, busy)


def _panel(store: Store, show: str, busy: bool) -> None:
    with widgets.errors_shown():
        feed: Feed = st.session_state.setdefault("tune-feed", Feed())
        listed = _ordered(chosen_runs(store, show))
        feed.refresh(store, [run.run_id for run in listed])
        runs = [feed.runs[run.run_id] for run in listed if run.run_id in feed.runs]
        ensure_dispatcher(store)
        if not runs:
            return
        _summary(store, runs)
        _curves(feed, runs)
        _rows(feed, runs)
    if busy and all(run.status.is_finished() for run in runs):
        st.rerun()  # the whole page, which stops the clock


def _summary(store: Store, runs: Sequence[Run]) -> None:
    counts: dict[str, int] = {}
    for run in runs:
        word = run_rows.WORDS[run.status][0]
        counts[word] = counts.get(word, 0) + 1
    told = [
        f"{formatting.plural(len(runs), 'run')}: " + " · ".join(f"{count} {word}" for word, count in counts.items())
    ]
    unfinished = [run for run in runs if not run.status.is_finished()]
    if (left := time_left_s(runs)) is not None:
        told.append(f"about {formatting.duration(left)} to go")
    elif unfinished and not store.runs(status=LIVE):
        told.append("the engine gets ready; runs that follow start at once")
    with st.container(horizontal=True, vertical_alignment="center", key="tune-summary", height=38, border=False):
        widgets.html_block(f'<div class="cdka-quiet">{" · ".join(told)}</div>')
        if len(unfinished) > 1:
            actions.for_all(unfinished)


def _curves(feed: Feed, runs: Sequence[Run]) -> None:
    drawn = {run.run_id for run in runs[:MOST_CURVES]}
    validation, training = feed.validation(drawn), feed.training(drawn)
    labels = tuple(dict.fromkeys(run.spec.label.removeprefix("cdka ") for run in runs[:MOST_CURVES]))
    shown = race_curves.colours(labels)
    total = max(1, *(run.step if run.status.is_finished() else run.spec.steps for run in runs))
    task = TASKS.get(runs[0].spec.task)
    left, right = st.columns(2, gap="small")
    left.vega_lite_chart(
        race_curves.named(validation),
        race_curves.validation(labels, shown, total, task.chance if task else None),
        key="tune-validation",
        alt="Validation accuracy by training step, one line per run",
    )
    right.vega_lite_chart(
        training,
        race_curves.training(labels, shown, total, race_curves.top_loss(training)),
        key="tune-training",
        alt="Training loss by step, raw and smoothed, one line per run",
    )
    some = f"Curves of the first {MOST_CURVES} of {len(runs)} runs. " if len(runs) > MOST_CURVES else ""
    widgets.caption(some + "Drag to move a chart, Shift and the wheel to zoom, double-click for the whole.")


def _rows(feed: Feed, runs: Sequence[Run]) -> None:
    page = 0
    if len(runs) > MOST_ROWS:
        pages = -(-len(runs) // MOST_ROWS)
        page = (
            st.segmented_control(
                "Page",
                list(range(pages)),
                default=0,
                required=True,
                key="tune-page",
                label_visibility="collapsed",
                format_func=lambda p: f"{p * MOST_ROWS + 1}–{min(len(runs), (p + 1) * MOST_ROWS)}",
            )
            or 0
        )
        page = min(page, pages - 1)
    differs = run_rows.apart(runs)
    for run in runs[page * MOST_ROWS : (page + 1) * MOST_ROWS]:
        with st.container(horizontal=True, vertical_alignment="center", key=f"row-{run.run_id}", gap="small"):
            widgets.html_block(run_rows.row_html(run, feed.tracks[run.run_id], differs[run.run_id]))
            menu(run)


def _ordered(runs: Sequence[Run]) -> list[Run]:
    """At work first, then waiting, then finished, the newest first; within a state in the order of submission."""
    rank = {**dict.fromkeys(LIVE, 0), RunState.QUEUED: 1}
    return sorted(runs, key=lambda run: (rank.get(run.status, 2), -run.created_at if run.status.is_finished() else 0))
