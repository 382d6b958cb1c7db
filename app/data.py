"""State that is kept between clicks: the run store, solved budgets, forecasts, and the one launcher of a session."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import streamlit as st

from cdka.align.gradient_pattern import measure_pattern
from cdka.errors import CdkaError
from cdka.models.shapes import ModelShapes
from cdka.paths import home_dir
from cdka.runs.states import FINISHED
from cdka.runs.store import Store
from cdka.solver import Pattern, Solution, explore
from cdka.solver import pattern as best_pattern
from cdka.solver.budget import Budget
from cdka.sweep.forecast import Forecast
from cdka.sweep.forecast import forecast as estimate
from cdka.sweep.launch import launch
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
    indivisible: str = "error",
) -> Solution:
    """Every option under a budget, ``limits`` on r1, r2 and r kept; the same question is answered from memory."""
    return explore(
        shapes,
        budget,
        target_modules=target_modules,
        weights=dict(weights),
        indivisible=indivisible,
        **dict(limits),
    )


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


@lru_cache(maxsize=16)
def gradient_pattern(
    model: str,
    task: str,
    budget: str,
    target_modules: str | tuple[str, ...],
    measure: str,
    limits: tuple[tuple[str, int], ...],
    task_options: tuple[tuple[str, Any], ...],
) -> Pattern:
    """The components per module that capture most of a gradient measured on the task; from memory the second time."""
    return measure_pattern(
        model,
        task,
        budget,
        measure=measure,
        target_modules=target_modules,
        limits=dict(limits),
        task_options=dict(task_options),
    )


class Stream:
    """A generator of progress at work in a thread of the server; whoever draws reads what it has made so far.

    ``parts`` holds the last progress of each ``who``, ``result`` what the generator returned, ``error`` its refusal.
    """

    def __init__(self, work: Generator[dict[str, Any], None, Any]) -> None:
        self.parts: dict[str, dict[str, Any]] = {}
        self.result: Any = None
        self.error: str | None = None
        self.done = False
        self._stopped = False
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def stop(self) -> None:
        """End the work at its next progress; nothing more is shown of it."""
        self._stopped = True

    def _run(self, work: Generator[dict[str, Any], None, Any]) -> None:
        try:
            while not self._stopped:
                part = next(work)
                self.parts[part.get("who", "")] = part
            work.close()
        except StopIteration as end:
            self.result = end.value
        except CdkaError as refusal:
            self.error = " ".join(str(refusal).split())
        finally:
            self.done = True


_MAX_FORECASTS = 32


def forecast(plan: Plan, key: str) -> Forecast:
    """The jobs, time and memory of a plan, kept until more runs have finished or were measured here."""
    kept: dict = st.session_state.setdefault("forecasts", {})
    finished = store().count(status=FINISHED)
    measurements = len(list((store().home / "measured").glob("*.json")))
    mark = (str(store().home), key, finished, measurements, len(plan.specs))
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
