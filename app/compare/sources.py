"""Sources of a comparison: sweeps of this home and imported bundles, read once and kept while nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from app import data, widgets
from cdka import formatting
from cdka.compare import bundle
from cdka.compare.comparison import Comparison, compare
from cdka.compare.figures.curves import X_TITLES
from cdka.compare.figures.lines import Grid, grid
from cdka.compare.measure import Measure
from cdka.compare.source import Source, StoreSource, newest
from cdka.errors import unknown
from cdka.paths import home_dir
from cdka.runs.events import Evaluated
from cdka.runs.states import LIVE, RunState

MAX_OFFERED = 300
"""Sweeps to choose from, the newest; others are reached by their address, as the list of sweeps links to them."""
BUNDLE = "bundle-"
EXAMPLE = BUNDLE + bundle.EXAMPLE
"""The embedded example: the last of the options, so that it is shown only where there is nothing else, or on demand."""


@dataclass(frozen=True)
class Chosen:
    """The chosen sources. ``fingerprint`` changes with whatever could change a number or a curve."""

    source: _Remembered
    fingerprint: tuple
    choose_lr: bool
    live: bool
    sweep_ids: tuple[str, ...]


def options() -> dict[str, str]:
    """Sources that can be compared, newest first: id to title."""
    store, asked = data.store(), st.query_params.get_all("sweep")
    newest_and_asked = [*store.sweeps(limit=MAX_OFFERED), *store.sweeps(ids=asked)]
    found = {
        sweep.sweep_id: f"{sweep.name} · {formatting.plural(sum(sweep.counts.values()), 'run')}"
        for sweep in newest_and_asked
    }
    found |= {BUNDLE + name: f"bundle: {title}" for name, title in bundle.imported(home_dir()).items()}
    return found | {EXAMPLE: f"example: {bundle.example_title()}"}


def widget(known: dict[str, str]) -> list[str]:
    """Asks what to compare, ids in the address; the newest where nothing is picked.

    Not bound by Streamlit, which would write titles into the address: the address is read when it has changed
    (arriving, going back) and written when the reader picks.
    """
    asked = st.query_params.get_all("sweep")
    if st.session_state.get("compare-asked") != asked:
        st.session_state["compare-asked"] = asked
        st.session_state["compare-sweep"] = [name for name in asked if name in known]
        for name in asked:
            if name not in known:
                warning = unknown("sweep or bundle", name, known, next_step="Showing the others, or the newest.")
                st.warning(widgets.literal(str(warning)))
    first = _newest(known)
    chosen = st.multiselect(
        "Sweeps",
        list(known),
        format_func=lambda name: known.get(name, name),
        key="compare-sweep",
        on_change=_picked,
        placeholder=f"newest: {known[first]}",
        select_all=False,
        help="Several are compared as one. Bundles: see Export.",
    )
    return chosen or [first]


def _newest(known: dict[str, str]) -> str:
    """The newest sweep that was not cancelled as a whole, else the first bundle."""
    sweep = newest(data.store().sweeps(limit=MAX_OFFERED))
    return sweep.sweep_id if sweep else next(name for name in known if name.startswith(BUNDLE))


def _picked() -> None:
    show(st.session_state["compare-sweep"])


def show(names: list[str]) -> None:
    """Put these sweeps or bundles into the address."""
    st.session_state["compare-asked"] = list(names)
    if names:
        st.query_params["sweep"] = list(names)
    else:
        st.query_params.pop("sweep", None)


def load(names: list[str]) -> Chosen:
    """The source of the chosen sweeps, or of one bundle (a bundle is compared by itself)."""
    for name in names:
        if name.startswith(BUNDLE):
            if len(names) > 1:
                st.info("A bundle is shown on its own. Remove it above to see your other sweeps.", icon=None)
            source = _bundle(str(home_dir()), name.removeprefix(BUNDLE))
            return Chosen(_Remembered(source, (name,)), ("bundle", name), source.choose_lr, False, ())
    store = data.store()
    fingerprint = tuple(store.standing(names))
    sweeps = [store.sweep(name) for name in names]
    source = StoreSource(store, run_ids=[run[0] for run in fingerprint], name=" + ".join(s.name for s in sweeps))
    return Chosen(
        _Remembered(source, fingerprint),
        fingerprint,
        any(sweep.tunes_lr for sweep in sweeps),
        any(state in (*LIVE, RunState.QUEUED) for _, state, _, _ in fingerprint),
        tuple(names),
    )


@lru_cache(maxsize=8)
def _bundle(home: str, name: str) -> bundle.Bundle:
    return bundle.example() if name == bundle.EXAMPLE else bundle.imported_bundle(home, name)


class _Remembered:
    """A source that reads each thing once, and is equal to another whose runs stand at the same points."""

    def __init__(self, source: Source, fingerprint: tuple) -> None:
        self._source, self._key = source, (source.name, fingerprint)
        self.name = source.name

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remembered) and self._key == other._key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def frame(self) -> pd.DataFrame:
        return _frame(self)

    def specs(self) -> dict[str, dict[str, Any]]:
        return _specs(self)

    def curves(self, run_ids: Sequence[str]) -> pd.DataFrame:
        found, wanted = _all_curves(self), set(run_ids)
        whole = wanted >= set(self.frame()["run_id"])
        return found if whole else found[found["run_id"].isin(wanted)]


@lru_cache(maxsize=4)
def _frame(source: _Remembered) -> pd.DataFrame:
    return source._source.frame()


@lru_cache(maxsize=4)
def _specs(source: _Remembered) -> dict[str, dict[str, Any]]:
    return source._source.specs()


@lru_cache(maxsize=4)
def _all_curves(source: _Remembered) -> pd.DataFrame:
    found = source._source.curves(source.frame()["run_id"].to_list())
    return found.astype({"run_id": "category", "kind": "category"})  # 200,000 rows are searched at a click


@lru_cache(maxsize=24)
def _comparison(source: _Remembered, measure: Measure, reference: str | None, choose_lr: bool) -> Comparison:
    return compare(source, measure, reference, choose_lr=choose_lr)


@lru_cache(maxsize=8)
def _grid(source: _Remembered, x: str, y: str) -> Grid:
    return grid(_all_curves(source), x, y)


def comparison(chosen: Chosen, measure: Measure, reference: str | None) -> Comparison:
    """The comparison, from memory while no run has moved."""
    return _comparison(chosen.source, measure, reference, chosen.choose_lr)


def curves(chosen: Chosen, x: str, y: str) -> Grid:
    """The curves of all runs on common steps, from memory while no run has moved."""
    return _grid(chosen.source, x, y)


@lru_cache(maxsize=4)
def steps(source: _Remembered) -> tuple[int, ...]:
    """The steps at which any run was evaluated."""
    found = _all_curves(source)
    return tuple(sorted(int(step) for step in found.loc[(found["kind"] == Evaluated.kind).to_numpy(), "step"].unique()))


@lru_cache(maxsize=4)
def axes(source: _Remembered) -> tuple[str, ...]:
    """The columns that curves can be drawn along."""
    found = _all_curves(source)
    return tuple(a for a in X_TITLES if a == "step" or (a in found and found[a].notna().any()))


@st.fragment(run_every=3.0)
def watch(names: list[str], fingerprint: tuple) -> None:
    """Runs the page again when a run has moved. Only on the page while something is under way."""
    if load(names).fingerprint != fingerprint:
        st.rerun()
