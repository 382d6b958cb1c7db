"""The menu of one run: what can be done with it, its stored settings, its log, its attempts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import streamlit as st

from app import data, widgets
from app.finetune import actions, run_rows
from app.finetune.feed import Track
from cdka import formatting
from cdka.runs.run import Run
from cdka.runs.spec import LOCAL
from cdka.runs.store import Store

FIRST = (
    "model",
    "task",
    "method",
    "components",
    "rank",
    "alpha",
    "lr",
    "steps",
    "batch_size",
    "seed",
    "schedule",
    "target_modules",
    "scaling_rule",
)
"""The settings people look for come first; all the others follow."""


def menu(runs: Sequence[Run], tracks: Mapping[str, Track]) -> None:
    """The button of the menu of one configuration's runs. Its contents are made only while it is open."""
    first = runs[0]
    label = "More" if len(runs) == 1 else f"{len(runs)} runs"
    pop = st.popover(label, key=f"menu-{first.run_id}", on_change="rerun", help="Each run: stop, retry, log, settings")
    if not pop.open:
        return
    with pop, widgets.errors_shown():
        run = first
        if len(runs) > 1:
            names = {f"seed {one.spec.seed}" + ("" if one.attempt < 2 else f", {one.run_id}"): one for one in runs}
            if len(names) < len(runs):
                names = {f"seed {one.spec.seed}, {one.run_id}": one for one in runs}
            picked = st.segmented_control(
                "Run", list(names), default=next(iter(names)), required=True, key=f"pick-{first.run_id}"
            )
            run = names.get(picked or "", first)
        widgets.html_block(run_rows.row_html(run, tracks[run.run_id]))
        _contents(run)


def _contents(run: Run) -> None:
    with widgets.errors_shown():
        store = data.store()
        slot, _ = store.places([run.run_id]).get(run.run_id, ("", None)) if run.spec.engine != LOCAL else ("", None)
        place = f", on {widgets.literal(slot)}" if slot else ""
        st.caption(f"Run {run.run_id}, attempt {max(run.attempt, 1)}{place}")
        actions.buttons(run)
        if run.status.is_kept():
            st.code(str(run.adapter_dir), language=None)
        if run.error and "no longer finite" in run.error:
            st.page_link(
                "views/learn.py", label="Why training blows up: the lesson on stability", query_params={"chapter": "5"}
            )
        settings, log, history = st.tabs(["Settings", "Log", "History"])
        settings.dataframe(_settings(store, run), hide_index=True, height=260)
        with log:
            _log(store, run)
        history.dataframe(_history(store, run), hide_index=True)


def _settings(store: Store, run: Run) -> dict[str, list[str]]:
    stored = run.spec.to_dict()
    names = [*FIRST, *(name for name in stored if name not in FIRST)]
    attempts = store.attempts(run.run_id)
    versions = attempts[-1]["versions"] if attempts else {}
    return {
        "setting": [*names, *(f"version of {name}" for name in versions)],
        "value": [*(_text(stored[name]) for name in names), *map(str, versions.values())],
    }


def _text(value: object) -> str:
    if value is None or value == {}:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _log(store: Store, run: Run) -> None:
    text = store.log(run.run_id)
    st.code(text or "Nothing was printed.", language=None, height=260)
    size = run.log_path.stat().st_size if run.log_path.exists() else 0
    if size > len(text.encode()):
        st.caption(f"Last lines of {formatting.size(size)}. Full log: {widgets.literal(str(run.log_path))}")


def _history(store: Store, run: Run) -> dict[str, list[str]]:
    attempts = store.attempts(run.run_id)
    return {
        "attempt": [str(one["attempt"]) for one in attempts],
        "began": [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["started_at"])) for one in attempts],
        "ended": [one["status"] or "running" for one in attempts],
        "why": [one["error"] or "" for one in attempts],
    }
