"""The options of the Design room side by side: scatter above, table below, each able to pick and to tick."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import basket, charts
from app.design import chosen, figures, patterned, table
from cdka.components import Components
from cdka.solver import OBJECTIVES, Option, Solution

_SCATTER, _TABLE = "design-scatter", "design-options"
LISTED = {**table.SHOWN, "guidelines": "Guidelines", "modules": "Per module"}
_HEIGHTS = {"alignment": "Alignment", "rank_bound": "Rank"}


def weights() -> tuple[tuple[str, float], ...]:
    """The objectives as weighed; empty while all are zero, which means best alignment first."""
    given = {name: st.session_state.get(f"weigh-{name}", 0.0) for name in OBJECTIVES}
    return tuple((name, weight) for name, weight in given.items() if weight > 0)


def weigh() -> None:
    """Asks how much each objective counts for the order of the table."""
    with st.popover("Weigh", help="Order the table by your own mixture of objectives."):
        st.caption("All zero: by alignment, then rank bound, then number of components.")
        for name, objective in OBJECTIVES.items():
            st.slider(
                name.capitalize(), 0.0, 3.0, 0.0, 0.5, key=f"weigh-{name}", help=objective.meaning,
                persist_state="session",
            )  # fmt: skip


def scatter(solution: Solution, option: Option | None) -> None:
    """Parameters against the chosen measure; a click looks closer."""
    measure = st.session_state.get("design-measure") or "alignment"
    figure = figures.options(
        solution.options, measure, option, chosen.components_of(basket.contents()), solution.budget_params
    )
    st.plotly_chart(
        figure, key=_SCATTER, on_select=_clicked, selection_mode="points", config=charts.PLOTLY_CONFIG,
        alt=f"Every option that fits the budget: trainable parameters against {_HEIGHTS[measure].lower()}",
    )  # fmt: skip


def heights() -> None:
    """Asks what the scatter's height means."""
    st.segmented_control(
        "Height", list(_HEIGHTS), default="alignment", required=True, format_func=_HEIGHTS.get, key="design-measure",
        label_visibility="collapsed",
    )  # fmt: skip


def options(solution: Solution, option: Option | None) -> None:
    """The table, or what stands in its place. A tick puts an option into the comparison, a click looks closer."""
    which = st.session_state.get("design-listed") or "all"
    if which == "guidelines":
        return patterned.guidelines(solution)
    if which == "modules":
        return patterned.modules(solution, option)
    listed = table.listed(solution.options, which)
    table.show(listed, _TABLE, set(basket.contents()), partial(_touched, listed), height=282)


def which() -> None:
    """Asks which options are listed."""
    st.segmented_control(
        "Listed", list(LISTED), default="all", required=True, format_func=LISTED.get, key="design-listed",
        label_visibility="collapsed",
    )  # fmt: skip


def _clicked() -> None:
    points = st.session_state[_SCATTER]["selection"]["points"]
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        chosen.pick(Components.parse(data if isinstance(data, str) else data[0]))


def _touched(listed: list[Option]) -> None:
    ticked, looked = table.heard(_TABLE, listed)
    if looked is not None:
        chosen.pick(Components.parse(looked))
    here = {str(option.components) for option in listed}
    kept = [entry for entry in basket.contents() if entry not in here or entry in ticked]
    st.session_state[basket.KEY] = list(dict.fromkeys([*kept, *ticked]))
