"""What the server keeps between clicks: the run store, and solved budgets."""

from __future__ import annotations

from functools import lru_cache

import streamlit as st

from cdka.budget import Budget
from cdka.models.shapes import ModelShapes
from cdka.paths import home_dir
from cdka.runs.store import Store
from cdka.solver import Pattern, Solution, explore
from cdka.solver import pattern as best_pattern


@st.cache_resource(show_spinner=False, max_entries=4)
def _store(home: str) -> Store:
    return Store(home)


def store() -> Store:
    """The run store of this home, opened once for all sessions."""
    return _store(str(home_dir()))


@lru_cache(maxsize=64)
def solution(
    shapes: ModelShapes, budget: Budget, target_modules: str, weights: tuple[tuple[str, float], ...]
) -> Solution:
    """Every option under a budget; the same question is answered from memory."""
    return explore(shapes, budget, target_modules=target_modules, weights=dict(weights))


@lru_cache(maxsize=64)
def pattern(shapes: ModelShapes, budget: Budget, target_modules: tuple[str, ...], measure: str) -> Pattern:
    """The best different components per module under a budget, answered from memory the second time."""
    return best_pattern(explore(shapes, budget, target_modules=target_modules), measure)
