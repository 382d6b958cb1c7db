"""The options of the Design room side by side: scatter above, table below, each able to pick and to tick."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import charts, comparison_list, configurations, state, theme, widgets
from app.design import inspect_option, option_table, per_module
from app.design.snippets import Targets
from cdka.compare.figures.options import option_figure
from cdka.components import Components
from cdka.solver import OBJECTIVES, Option, Solution
from cdka.solver.default_option import Advice

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


def order_popover() -> None:
    """Asks how much each objective counts for the order of the table, and for limits."""
    changed = bool(weights() or limits() or max_export_rank())
    with st.popover("Order ●" if changed else "Order", help="Order by your own mixture; limit."):
        st.selectbox(
            "Served as LoRA of rank at most",
            state.SERVED,
            **state.bound("served"),
            help="The exact export has rank r r1 r2, at most a module's smaller side; servers are started for one "
            "class of ranks.",
        )
        st.caption("Weights. All zero: best alignment first, of equal ones the leanest.")
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
                name.replace("max_", "Largest "),
                0,
                state.MAX_VALUE,
                state.default(name),
                step=1,
                help="0 for any",
                **state.bound(name),
            )


def scatter(solution: Solution, option: Option | None) -> None:
    """Parameters against the chosen measure; a click looks closer."""
    height = st.session_state.get("height") or state.default("height")
    measure = _HEIGHTS[height]
    compared = configurations.cdka_components(comparison_list.contents())
    figure = option_figure(solution, measure, option, compared, theme=theme.current())
    charts.show(
        figure,
        key=_SCATTER,
        on_select=_clicked,
        selection_mode="points",
        alt=f"Every option that fits the budget: trainable parameters against {height.lower()}",
    )
    widgets.caption("Dark dots: on the Pareto front; pale dots: the others; squares: LoRA; large ring: the one shown.")


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


def options(solution: Solution, option: Option, advice: Advice, target_modules: Targets) -> None:
    """The table, or what stands in its place. A tick puts an option into the comparison, a click shows it."""
    which = st.session_state.get("list") or state.default("list")
    if which == "Guidelines":
        return per_module.guidelines(solution)
    if which == "Per module":
        return per_module.modules(solution, option, target_modules)
    listing = option_table.listed(solution, which, advice, max_export_rank())
    on_select = partial(_touched, listing.options)
    option_table.show_table(listing, advice, _TABLE, set(comparison_list.contents()), on_select, height=TABLE_HEIGHT)
    order = "highest score first" if solution.weights else "best alignment first, of equal ones the leanest"
    many = f"{listing.total:,}"
    shown = many if listing.total == len(listing.options) else f"{len(listing.options)} of {many}"
    widgets.caption(f"{shown} options, {order}. Tick to compare; click a row to see it.")


def max_export_rank() -> int | None:
    """The largest rank of the exact LoRA export that is wanted; None for any."""
    rank = st.session_state.get("served") or st.query_params.get("served", state.default("served"))
    return int(rank) if str(rank).isdecimal() else None


def _clicked() -> None:
    points = st.session_state[_SCATTER]["selection"]["points"]
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        inspect_option.pick(Components.parse(data if isinstance(data, str) else data[0]))


def _touched(listed: list[Option]) -> None:
    ticked, looked = option_table.read_selection(_TABLE, listed)
    if looked is not None:
        inspect_option.pick(Components.parse(looked))
    here = {str(option.components) for option in listed}
    kept = [entry for entry in comparison_list.contents() if entry not in here or entry in ticked]
    st.session_state[comparison_list.KEY] = list(dict.fromkeys([*kept, *ticked]))
