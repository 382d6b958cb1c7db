"""The options of the Design room side by side: scatter above, table below, each able to pick and to tick."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import charts, comparison_list, configurations, state, widgets
from app.design import inspect_option, option_scatter, option_table, per_module
from app.design.snippets import Targets
from cdka.components import Components
from cdka.solver import OBJECTIVES, Option, Solution

_SCATTER, _TABLE = "design-scatter", "design-options"
_HEIGHTS = {"Alignment": "alignment", "Rank": "rank_bound"}
_NAMES = {"rank": "Rank bound", "components": "Number of components", "flops": "Few FLOPs", "memory": "Few parameters"}
_LIMITS = ("max_r1", "max_r2", "max_r")
TABLE_HEIGHT = 340


def weights() -> tuple[tuple[str, float], ...]:
    """The objectives as weighed; empty while all are zero, which means best alignment first."""
    given = {name: _given(f"weigh_{name}") for name in OBJECTIVES}
    return tuple((name, weight) for name, weight in given.items() if weight > 0)


def limits() -> tuple[tuple[str, int], ...]:
    """The largest r1, r2 and r that are looked for; what has no limit is left out."""
    return tuple((name, int(value)) for name in _LIMITS if (value := _given(name)))


def _given(name: str) -> float:
    return float(st.session_state.get(name, st.query_params.get(name, state.default(name))))


def weigh() -> None:
    """Asks how much each objective counts for the order of the table, and for limits."""
    changed = bool(weights() or limits())
    with st.popover("Weigh ●" if changed else "Weigh", help="Order the options by your own mixture, and limit them."):
        st.caption("All zero: by alignment, of equals the cheapest.")
        for name, objective in OBJECTIVES.items():
            st.slider(
                _NAMES.get(name, name.capitalize()),
                0.0,
                3.0,
                state.default(f"weigh_{name}"),
                0.5,
                help=objective.meaning,
                **state.bound(f"weigh_{name}"),
            )
        for column, name in zip(st.columns(3, gap="small"), _LIMITS, strict=True):
            column.number_input(
                name.replace("max_", "Most "),
                0,
                state.MOST,
                state.default(name),
                step=1,
                help="0: no limit",
                **state.bound(name),
            )


def scatter(solution: Solution, option: Option | None) -> None:
    """Parameters against the chosen measure; a click looks closer."""
    height = st.session_state.get("height") or state.default("height")
    measure = _HEIGHTS[height]
    figure = option_scatter.options(
        solution, measure, option, configurations.cdka_components(comparison_list.contents())
    )
    st.plotly_chart(
        figure,
        key=_SCATTER,
        on_select=_clicked,
        selection_mode="points",
        config=charts.PLOTLY_CONFIG,
        alt=f"Every option that fits the budget: trainable parameters against {height.lower()}",
    )


def heights() -> None:
    """Asks what the scatter's height means."""
    st.segmented_control(
        "Height",
        list(_HEIGHTS),
        default=state.default("height"),
        required=True,
        label_visibility="collapsed",
        **state.bound("height"),
    )


def which() -> None:
    """Asks which options are listed."""
    st.segmented_control(
        "Listed",
        list(state.LISTS),
        default=state.default("list"),
        required=True,
        label_visibility="collapsed",
        **state.bound("list"),
    )


def options(solution: Solution, option: Option | None, target_modules: Targets) -> None:
    """The table, or what stands in its place. A tick puts an option into the comparison, a click looks closer."""
    which = st.session_state.get("list") or state.default("list")
    if which == "Guidelines":
        return per_module.guidelines(solution)
    if which == "Per module":
        return per_module.modules(solution, option, target_modules)
    listed, number = option_table.listed(solution, which)
    option_table.show(listed, _TABLE, set(comparison_list.contents()), partial(_touched, listed), height=TABLE_HEIGHT)
    order = "highest score" if solution.weights else "best aligned"
    shown = f"{number:,}" if number == len(listed) else f"{len(listed)} of {number:,}"
    widgets.caption(f"{shown} options, {order} first. Tick to compare; click a row to look closer.")


def _clicked() -> None:
    points = st.session_state[_SCATTER]["selection"]["points"]
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        inspect_option.pick(Components.parse(data if isinstance(data, str) else data[0]))


def _touched(listed: list[Option]) -> None:
    ticked, looked = option_table.heard(_TABLE, listed)
    if looked is not None:
        inspect_option.pick(Components.parse(looked))
    here = {str(option.components) for option in listed}
    kept = [entry for entry in comparison_list.contents() if entry not in here or entry in ticked]
    st.session_state[comparison_list.KEY] = list(dict.fromkeys([*kept, *ticked]))
