"""What is compared: sweeps of this home and imported bundles, read once and kept while nothing changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import pandas as pd
import streamlit as st

from app import data, words
from cdka.compare import bundle
from cdka.compare.comparison import Comparison, compare
from cdka.compare.measure import Measure
from cdka.compare.source import Source, StoreSource
from cdka.errors import unknown
from cdka.paths import home_dir
from cdka.runs.record import LIVE, QUEUED

BUNDLE = "bundle-"


@dataclass(frozen=True)
class Chosen:
    """What the reader chose to compare. ``fingerprint`` changes with whatever could change a number or a curve."""

    source: Source
    fingerprint: tuple
    choose_lr: bool
    live: bool
    sweep_ids: tuple[str, ...]


def options() -> dict[str, str]:
    """What can be compared, newest first: id to title."""
    found = {
        sweep.sweep_id: f"{sweep.name} · {words.plural(sum(sweep.counts.values()), 'run')}"
        for sweep in data.store().sweeps()
    }
    return found | {BUNDLE + name: f"bundle: {title}" for name, title in bundle.imported(home_dir()).items()}


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
                st.warning(str(unknown("sweep or bundle", name, known, next_step="Showing the others, or the newest.")))
    chosen = st.multiselect(
        "Sweeps", list(known), format_func=lambda name: known.get(name, name), key="compare-sweep", on_change=_picked,
        placeholder=f"newest: {next(iter(known.values()))}", help="Several are compared as one. Bundles: see Export.",
    )  # fmt: skip
    return chosen or [next(iter(known))]


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
            source = _bundle(str(home_dir()), name.removeprefix(BUNDLE))
            return Chosen(source, ("bundle", name), source.choose_lr, False, ())
    store = data.store()
    runs = [run for name in names for run in store.runs(sweep_id=name)]
    fingerprint = tuple((run.run_id, run.status, run.attempt, run.step) for run in runs)
    sweeps = [store.sweep(name) for name in names]
    return Chosen(
        StoreSource(store, run_ids=[run.run_id for run in runs], name=" + ".join(sweep.name for sweep in sweeps)),
        fingerprint,
        any(sweep.plan.get("tune_lr") for sweep in sweeps),
        any(run.status in (*LIVE, QUEUED) for run in runs),
        tuple(names),
    )


@lru_cache(maxsize=8)
def _bundle(home: str, name: str) -> bundle.Bundle:
    return bundle.imported_bundle(home, name)


class _Keyed:
    """A source that is equal to another with the same fingerprint: what the caches below go by."""

    def __init__(self, chosen: Chosen) -> None:
        self.source, self.key = chosen.source, (chosen.source.name, chosen.fingerprint)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


@lru_cache(maxsize=24)
def _comparison(keyed: _Keyed, measure: Measure, reference: str | None, choose_lr: bool) -> Comparison:
    return compare(_WithCurves(keyed), measure, reference, choose_lr=choose_lr)


@lru_cache(maxsize=4)
def _curves(keyed: _Keyed) -> pd.DataFrame:
    return keyed.source.curves(keyed.source.frame()["run_id"].to_list())


class _WithCurves:
    """A source whose curves are read once, for all measures and figures."""

    def __init__(self, keyed: _Keyed) -> None:
        self._keyed = keyed

    def __getattr__(self, name: str):
        return getattr(self._keyed.source, name)

    def curves(self, run_ids) -> pd.DataFrame:
        found = _curves(self._keyed)
        return found[found["run_id"].isin(set(run_ids))]


def comparison(chosen: Chosen, measure: Measure, reference: str | None) -> Comparison:
    """The comparison, from memory while no run has moved."""
    return _comparison(_Keyed(chosen), measure, reference, chosen.choose_lr)


def curves(chosen: Chosen) -> pd.DataFrame:
    """The curves of all runs, from memory while no run has moved."""
    return _curves(_Keyed(chosen))


@st.fragment(run_every=3.0)
def watch(names: list[str], fingerprint: tuple) -> None:
    """Runs the page again when a run has moved. Only on the page while something is under way."""
    if load(names).fingerprint != fingerprint:
        st.rerun()
