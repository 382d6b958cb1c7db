"""State that is kept between clicks: the run store, solved budgets, forecasts, and the one launcher of a session."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache

import streamlit as st

from cdka.models.shapes import ModelShapes
from cdka.paths import home_dir
from cdka.runs.states import FINISHED
from cdka.runs.store import Store
from cdka.solver import Pattern, Solution, explore
from cdka.solver import pattern as best_pattern
from cdka.solver.budget import Budget
from cdka.sweep.launch import Forecast, launch
from cdka.sweep.launch import forecast as estimate
from cdka.sweep.plan import Plan


@st.cache_resource(show_spinner=False, max_entries=4)
def _store(home: str) -> Store:
    return Store(home)


def store() -> Store:
    """The run store of this home, opened once for all sessions."""
    return _store(str(home_dir()))


@lru_cache(maxsize=64)
def solution(
    shapes: ModelShapes,
    budget: Budget,
    target_modules: str | tuple[str, ...],
    weights: tuple[tuple[str, float], ...],
    limits: tuple[tuple[str, int], ...] = (),
) -> Solution:
    """Every option under a budget, ``limits`` on r1, r2 and r kept; the same question is answered from memory."""
    return explore(shapes, budget, target_modules=target_modules, weights=dict(weights), **dict(limits))


@lru_cache(maxsize=64)
def pattern(
    shapes: ModelShapes,
    budget: Budget,
    target_modules: str | tuple[str, ...],
    measure: str,
    limits: tuple[tuple[str, int], ...] = (),
) -> Pattern:
    """The best different components per module under a budget, answered from memory the second time."""
    return best_pattern(explore(shapes, budget, target_modules=target_modules, **dict(limits)), measure)


_MAX_FORECASTS = 32


def forecast(plan: Plan, key: str) -> Forecast:
    """The jobs, time and memory of a plan, kept until more runs have finished here: they change the estimate."""
    kept: dict = st.session_state.setdefault("forecasts", {})
    finished = store().count(status=FINISHED)
    mark = (str(store().home), key, finished, len(plan.specs))
    if mark not in kept:
        if len(kept) >= _MAX_FORECASTS:
            kept.clear()
        kept[mark] = estimate(plan.runs, store())
    return kept[mark]


DOUBLE_CLICK_S = 3.0
"""The same request within this time is the same click; later it asks for more runs."""


@dataclass
class Launcher:
    """Starts plans, each request once. One per browser session; see ``launcher``."""

    _given: dict[str, tuple[str, float]] = field(default_factory=dict)

    def launch(self, store: Store, plan: Plan, request: str) -> str:
        """The id of the sweep; the same ``request`` again within three seconds of its launch gives the same sweep."""
        request_id, at = self._given.get(request, ("", float("-inf")))
        if time.monotonic() - at > DOUBLE_CLICK_S:
            request_id = f"studio-{uuid.uuid4().hex}"
        sweep_id = launch(plan, store, request_id=request_id)
        self._given[request] = (request_id, time.monotonic())
        return sweep_id


def launcher() -> Launcher:
    """The launcher of this browser session."""
    return st.session_state.setdefault("launcher", Launcher())
