"""The runs on screen: curves first, then a row each. One fragment asks the store for what is new, once a second."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import streamlit as st

from app import charts, form_memory, state, widgets
from app.compare.headline_card import headline_html
from app.finetune import actions, cluster_panel, race_curves, run_menu, run_rows
from app.finetune.feed import Feed
from app.finetune.run_rows import ArmRuns
from app.pickers import filter_form, filter_of
from cdka import formatting
from cdka.compare.comparison import compare
from cdka.compare.headline import Headline, headline
from cdka.compare.source import StoreSource
from cdka.cost.time import time_left_s
from cdka.engine.local import ensure_dispatcher
from cdka.runs.job_queue import halving_undecided
from cdka.runs.metrics import TEST_ACCURACY
from cdka.runs.run import Run
from cdka.runs.states import FINISHED, LIVE, RunState
from cdka.runs.store import Store
from cdka.tasks.catalogue import TASKS

EVERY_S = 1.0
MAX_ROWS = 8
MAX_LINKED = 60
"""Rows that light up their lines when pointed at."""
MAX_RUNS = 100
"""Runs of a page."""
UNFINISHED = (*LIVE, RunState.QUEUED)
SHOW, LIST, PAGE = "tune-show", "tune-list", "tune-list-page"
STATES = {"waiting": (RunState.QUEUED,), "at work": LIVE} | {
    run_rows.WORDS[status][0]: (status,) for status in RunState if status.is_finished()
}
"""The states by which runs are picked."""


def chosen_runs(store: Store, show: str) -> list[Run]:
    """The runs that ``show`` names: ``now`` is all at work and waiting, else the newest sweep; ``all``; or a sweep.

    Of more than ``MAX_RUNS`` it is one page: of all runs (that match what is searched for) the newest ones first.
    """
    first = (int(st.session_state.get(PAGE, 1)) - 1) * MAX_RUNS
    if show == "all":
        return store.runs(**_asked(), newest_first=True, limit=MAX_RUNS, offset=first)[::-1]
    loose, sweep_ids = _now(store) if show == "now" else ([], [show])
    return [*loose, *(store.runs(sweep_id=sweep_ids, limit=MAX_RUNS, offset=first) if sweep_ids else ())]


def _now(store: Store) -> tuple[list[Run], list[str]]:
    """(runs of no sweep, sweeps) at work or waiting; else the newest sweep, or the newest runs where there is none."""
    active = store.runs(status=UNFINISHED, limit=MAX_RUNS)
    if active:
        sweep_ids = dict.fromkeys(run.sweep_id for run in active if run.sweep_id is not None)
        return [run for run in active if run.sweep_id is None], list(sweep_ids)
    newest = store.sweeps(limit=1)
    if newest:
        return [], [newest[0].sweep_id]
    return store.runs(newest_first=True, limit=MAX_ROWS)[::-1], []


def _asked() -> dict[str, Any]:
    """The question to the store that the fields of the list of all runs ask."""
    wanted = filter_of(LIST)
    settings = {"model": wanted.model, "task": wanted.task}
    return {
        "settings": settings,
        "status": STATES.get(wanted.state or ""),
        "text": wanted.text,
        "since": wanted.since,
    }


def picker(store: Store, asked: str) -> str:
    """Asks which runs to show; ``asked`` is what the URL says."""
    offered = [*store.sweeps(limit=200), *store.sweeps(ids=[asked])]
    sweeps = {sweep.sweep_id: sweep for sweep in offered}
    options = ["now", *sweeps, "all"]
    if state.changed_in_url("show", asked):
        st.session_state[SHOW] = asked
    if st.session_state.get(SHOW, "now") not in options:
        st.session_state[SHOW] = "now"
    names = {"now": "Running, or the latest if none", "all": "All runs"}
    shown = st.selectbox(
        "Shown",
        options,
        format_func=lambda key: names.get(key) or f"{sweeps[key].name} · {formatting.date(sweeps[key].created_at)}",
        **form_memory.kept(SHOW),
        label_visibility="collapsed",
        on_change=_shown,
    )
    if shown == "all":
        models, tasks = store.values_of("model"), store.values_of("task")
        filter_form(LIST, models, tasks, STATES, placeholder="configuration, seed, id or day")
        number = store.count(**_asked())
        if not number and searched(shown):
            widgets.remark("No run here matches.")
        _page(number, 1, ", the newest first")
    else:
        sweep_ids = _now(store)[1] if shown == "now" else [shown]
        ended = store.count(sweep_id=sweep_ids, status=FINISHED)
        number = store.count(sweep_id=sweep_ids)
        _page(number, 1 if ended == number else 1 + ended // MAX_RUNS)
    return shown


def _page(number: int, usual: int, order: str = "") -> None:
    """Asks for the page of ``number`` runs, where they are more than one page; the page ``usual`` at first."""
    if number <= MAX_RUNS:
        st.session_state.pop(PAGE, None)
        return
    pages = -(-number // MAX_RUNS)
    st.session_state[PAGE] = min(st.session_state.get(PAGE, usual), pages)
    st.number_input(f"Page, of {pages}: {number:,} runs{order}", 1, pages, key=PAGE, width=300)


def searched(show: str) -> bool:
    """True where the reader looks for some of all the runs."""
    return show == "all" and filter_of(LIST).is_set


def _shown() -> None:
    st.session_state.pop(PAGE, None)
    state.put("show", st.session_state[SHOW])


def show(sweep_id: str) -> None:
    """Show this sweep; from a callback."""
    st.session_state[SHOW] = sweep_id
    st.session_state.pop(PAGE, None)
    state.put("show", sweep_id)


def panel(store: Store, show: str) -> None:
    """The live panel; polls while something is at work, and comes to rest by itself."""
    busy = not _have_ended(store, chosen_runs(store, show))
    with st.container(key="tune-panel"):
        st.fragment(_panel, run_every=EVERY_S if busy else None, key="tune-live")(store, show, busy)


def _have_ended(store: Store, runs: Sequence[Run]) -> bool:
    """True where nothing more will happen by itself: between two rounds of a halving all have stopped, and go on."""
    finished = all(run.status.is_finished() for run in runs)
    return finished and not halving_undecided(store.database, [run.run_id for run in runs])


def _panel(store: Store, show: str, busy: bool) -> None:
    with widgets.errors_shown():
        feed: Feed = st.session_state.setdefault("tune-feed", Feed())
        feed.refresh(store, [run.run_id for run in chosen_runs(store, show)])
        runs = list(feed.runs.values())
        arms = _best_first(run_rows.arms_of(runs))
        feed.labels = {run.run_id: arm.label for arm in arms for run in arm.runs}
        ensure_dispatcher(store)
        if not runs:
            return
        _summary(store, runs)
        with st.container():  # these keep their places while they are empty: the curves behind them are not drawn anew
            cluster_panel.show(store, runs)
        with st.container():
            if ended := _have_ended(store, runs):
                _headline(store, runs)
        _curves(feed, arms)
        _rows(feed, arms)
    if busy and ended:
        st.rerun()  # the whole page, which stops the clock


def _summary(store: Store, runs: Sequence[Run]) -> None:
    counts: dict[str, int] = {}
    for run in runs:
        word = run_rows.WORDS[run.status][0]
        counts[word] = counts.get(word, 0) + 1
    facts = [
        f"{formatting.plural(len(runs), 'run')}: " + " · ".join(f"{count} {word}" for word, count in counts.items())
    ]
    unfinished = [run for run in runs if not run.status.is_finished()]
    if (left := time_left_s(runs)) is not None:
        facts.append(f"about {formatting.duration(left)} to go")
    elif unfinished and not store.count(status=LIVE):
        facts.append("starting up; later runs start at once")
    with st.container(horizontal=True, vertical_alignment="center", key="tune-summary", height=38, border=False):
        widgets.html_block(f'<div class="cdka-quiet">{" · ".join(facts)}</div>')
        if len(unfinished) > 1:
            actions.for_all(unfinished)


def _curves(feed: Feed, arms: Sequence[ArmRuns]) -> None:
    runs = [run for arm in arms for run in arm.runs]
    drawn = {run.run_id for run in runs}
    validation, training = feed.validation(drawn), feed.training(drawn)
    labels = tuple(arm.label for arm in arms)
    shown = race_curves.colours(labels)
    total = max(1, *(run.step if run.status.is_finished() else run.spec.steps for run in runs))
    task = TASKS.get(runs[0].spec.task)
    measure = race_curves.measure_of(validation)
    top = 1.0 if measure == "accuracy" else race_curves.top_loss(validation)
    st.html(run_rows.link_css(labels[:MAX_LINKED]))
    left, right = st.columns(2, gap="small")
    with left:
        charts.heading(f"Does it generalise? Validation {measure}")
    left.vega_lite_chart(
        race_curves.race_points(validation),
        race_curves.validation(labels, shown, total, task.chance if task else None, measure, top),
        key="tune-validation",
        alt=f"Validation {measure} by training step: runs, and the mean of each configuration with its band",
    )
    with right:
        charts.heading("Is it learning? Training loss (smoothed bold)")
    right.vega_lite_chart(
        training,
        race_curves.training(labels, shown, total, race_curves.top_loss(training)),
        key="tune-training",
        alt="Training loss by step, raw and smoothed, one line per run",
    )
    widgets.caption(
        f"Bold: mean over seeds; band: its 95 % interval, from two seeds on; {formatting.PLUS_MINUS}; thin: single "
        "runs. Point at a line or a row to light it up. Drag to move, Shift and the wheel to zoom, double-click for "
        "the whole."
    )


def _rows(feed: Feed, arms: Sequence[ArmRuns]) -> None:
    page = 0
    if len(arms) > MAX_ROWS:
        pages = -(-len(arms) // MAX_ROWS)
        page = (
            st.segmented_control(
                "Page",
                list(range(pages)),
                default=0,
                required=True,
                key="tune-page",
                label_visibility="collapsed",
                format_func=lambda p: _span(p * MAX_ROWS + 1, min(len(arms), (p + 1) * MAX_ROWS)),
            )
            or 0
        )
        page = min(page, pages - 1)
    for arm in arms[page * MAX_ROWS : (page + 1) * MAX_ROWS]:
        with st.container(horizontal=True, vertical_alignment="center", key=f"row-{arm.runs[0].run_id}", gap="small"):
            widgets.html_block(run_rows.arm_html(arm, feed.tracks))
            run_menu.menu(arm.runs, feed.tracks)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def _best_first(arms: Sequence[ArmRuns]) -> list[ArmRuns]:
    """In the order of submission while anything is at work, so that no row jumps; then by test accuracy."""
    if not all(run.status.is_finished() for arm in arms for run in arm.runs):
        return list(arms)

    def score(arm: ArmRuns) -> float:
        values = [run.metrics[TEST_ACCURACY] for run in arm.runs if TEST_ACCURACY in run.metrics]
        return sum(values) / len(values) if values else float("-inf")

    return sorted(arms, key=lambda arm: -score(arm))


def _headline(store: Store, runs: Sequence[Run]) -> None:
    """Once all has ended: what was found, in a sentence, and the way to Compare."""
    sweeps = {run.sweep_id for run in runs}
    if len(sweeps) != 1 or None in sweeps or not any(run.status.is_kept() for run in runs):
        return
    (sweep_id,) = sweeps
    if store.count(sweep_id=sweep_id, status=UNFINISHED):  # on another page
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="tune-headline"):
        mark = tuple((run.run_id, run.status, run.attempt) for run in runs)
        found, metric = _found(store, str(sweep_id), mark)
        widgets.html_block(headline_html(found, metric))
        widgets.link_button(
            "views/compare.py", label="Compare", query_params=state.query("compare", sweep=(str(sweep_id),))
        )


@lru_cache(maxsize=16)
def _found(store: Store, sweep_id: str, mark: tuple) -> tuple[Headline | None, str]:
    source = StoreSource(store, [sweep_id])
    comparison = compare(source, choose_lr=store.sweep(sweep_id).tunes_lr)
    return headline(comparison), comparison.measure.header
