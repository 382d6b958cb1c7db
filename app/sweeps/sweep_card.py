"""A sweep that was started here: its progress and time left, and where to look at it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import data, state, widgets
from cdka import formatting
from cdka.cost.time import time_left_s
from cdka.engine import local
from cdka.errors import CdkaError
from cdka.runs.run import Run, Sweep
from cdka.runs.states import KEPT, LIVE, RunState


@dataclass(frozen=True)
class Progress:
    """States of the runs of a sweep. ``share`` is in steps, ``remaining_s`` None where no speed is known yet."""

    total: int
    kept: int
    failed: int
    lost: int
    cancelled: int
    at_work: int
    share: float
    remaining_s: float | None

    @property
    def ended(self) -> bool:
        """True where nothing more will happen by itself."""
        return self.kept + self.failed + self.lost + self.cancelled == self.total


def progress(runs: Sequence[Run]) -> Progress:
    """The progress of ``runs``; the time left is the one that every room shows."""
    steps = sum(run.spec.steps for run in runs)
    done = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
    share = done / steps if steps else 0.0

    def count(*statuses: str) -> int:
        return sum(run.status in statuses for run in runs)

    return Progress(
        total=len(runs),
        kept=count(*KEPT),
        failed=count(RunState.FAILED),
        lost=count(RunState.LOST),
        cancelled=count(RunState.CANCELLED),
        at_work=count(*LIVE),
        share=share,
        remaining_s=time_left_s(runs),
    )


def progress_html(found: Progress) -> str:
    """``12 of 30 runs done · 4 at work · 0:40 left`` over a bar."""
    facts = [f"{found.kept} of {formatting.plural(found.total, 'run')} done"]
    counts = (found.failed, found.lost, found.cancelled, found.at_work)
    for number, word in zip(counts, ("failed", "lost", "cancelled", "running"), strict=True):
        if number:
            facts.append(f"{number} {word}")
    if found.remaining_s is not None:
        facts.append(f"{formatting.clock(found.remaining_s)} left")
    elif not found.ended:
        facts.append("starting" if found.at_work else "waiting")
    return (
        f'<span class="cdka-progress sweep-progress"><span class="bar" role="progressbar" aria-label="runs done" '
        f'aria-valuenow="{100 * found.share:.0f}" aria-valuemin="0" aria-valuemax="100">'
        f'<b style="width:{100 * found.share:.1f}%"></b></span>{" · ".join(facts)}</span>'
    )


EVERY_S = 1.5


def strip(sweep_id: str) -> None:
    """The progress of one sweep with links; polls while it is under way."""
    try:
        sweep = data.store().sweep(sweep_id)
    except CdkaError:
        return
    st.fragment(_strip, run_every=None if sweep.finished else EVERY_S, key="sweep-strip")(sweep_id, sweep.finished)


def _strip(sweep_id: str, ended: bool) -> None:
    with widgets.errors_shown(), st.container(border=True, key="sweep-started"):
        store = data.store()
        sweep, found = store.sweep(sweep_id), progress_of(sweep_id)
        if not sweep.finished:
            local.ensure_dispatcher(store)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            widgets.html_block(f"<b>{html.escape(sweep.name)}</b> {progress_html(found)}{why_failed_html(sweep_id)}")
            links(sweep)
            if not sweep.finished:
                st.button(
                    "Stop", key="sweep-strip-stop", on_click=cancel, args=(sweep_id,), help="Cancels what is left"
                )
    if sweep.finished != ended:
        st.rerun()


def why_failed_html(sweep_id: str) -> str:
    """Reasons why runs of a sweep failed or were lost: the first, and the number of others; empty if none did."""
    failed = [run for run in data.store().runs(sweep_id=sweep_id) if run.status in (RunState.FAILED, RunState.LOST)]
    if not failed:
        return ""
    reasons = list(dict.fromkeys((run.error or "no reason was told").strip().splitlines()[-1] for run in failed))
    more = f" And {formatting.plural(len(reasons) - 1, 'other reason')}." if len(reasons) > 1 else ""
    told = widgets.sentence_case(reasons[0])
    shown = told if len(told) <= 240 else told[:239] + "…"
    return f'<div class="sweep-note" title="{html.escape(told, quote=True)}">{html.escape(shown)}{more}</div>'


def progress_of(sweep_id: str) -> Progress:
    """The progress of a sweep's runs."""
    return progress(data.store().runs(sweep_id=sweep_id))


def links(sweep: Sweep) -> None:
    """Links to watch a sweep and to compare its runs."""
    with st.container(horizontal=True, width="content", gap="small"):
        st.page_link("views/finetune.py", label="Watch live", query_params=state.query("finetune", show=sweep.sweep_id))
        st.page_link("views/compare.py", label="Compare", query_params=state.query("compare", sweep=(sweep.sweep_id,)))


def cancel(sweep_id: str) -> None:
    """Take every run of a sweep that has not ended out of the queue or end it at once; finished runs stay."""
    stop(sweep_id, keep=False)


def stop(sweep_id: str, keep: bool = True) -> None:
    """Ask every run of a sweep that has not ended to stop; runs at work keep what they reached where ``keep``."""
    store = data.store()
    for run in store.runs(sweep_id=sweep_id):
        if not run.status.is_finished():
            store.request_stop(run.run_id, keep=keep and run.status.is_live())
