"""The figures of the Compare room: what each asks of the reader, and what a click on it does."""

from __future__ import annotations

import uuid
from typing import Any

import pandas as pd
import streamlit as st

from app import charts, data, parts, state, theme, words
from app.compare.selection import Chosen, axes, curves
from cdka.compare.comparison import Comparison
from cdka.compare.figures.curves import CROWDED, X_TITLES, curve_figure, factors_that_vary
from cdka.compare.figures.heatmap import heatmap_figure
from cdka.compare.figures.scatter import COSTS, difference_figure, scatter_figure
from cdka.compare.figures.style import Look
from cdka.compare.untried import specs_for, untried_cells

CURVES = {
    "validation accuracy": ("eval", "accuracy"),
    "validation loss": ("eval", "loss"),
    "training loss": ("step", "loss"),
}
_CONFIG = charts.PLOTLY_CONFIG | {"toImageButtonOptions": {"format": "svg", "filename": "cdka-compare", "scale": 2}}


_THIN = "Thin: one seed."
_CROWDED = f"Seeds and bands are drawn in panels of up to {CROWDED} arms: show fewer to see them."


def look() -> Look:
    """The theme in use."""
    return Look(dark=theme.is_dark())


def _draw(figure: Any, key: str, alt: str, **more: Any) -> Any:
    return st.plotly_chart(figure, key=key, theme=None, config=_CONFIG, alt=alt, width="stretch", **more)


def curve_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """Accuracy and loss along the way, by step, samples or time, in panels."""
    along = {X_TITLES[axis]: axis for axis in axes(chosen.source)}
    which, across, panels = st.columns(3)
    name = which.selectbox("Curve", list(CURVES), **state.bound("curve"))
    axis = along[across.selectbox("Along", list(along), **state.bound("axis"))]
    varying = factors_that_vary(comparison.arms)
    options = [state.default("facet"), "none", *(f"by {factor}" for factor in varying)]
    if st.session_state.get("facet") not in options:
        st.session_state["facet"] = options[0]
    picked = panels.selectbox("Panels", options, **state.bound("facet"))
    facet = (varying[0] if len(varying) > 1 else None) if picked == options[0] else picked.removeprefix("by ")
    kind, column = CURVES[name]
    figure = curve_figure(
        curves(chosen, axis, column, kind),
        comparison,
        shown,
        x=axis,
        y=column,
        kind=kind,
        facet=None if facet == "none" else facet,
        look=look(),
    )
    _draw(figure, "compare-curves", f"{name} by {X_TITLES[axis]}, one line per arm with its 95 % interval")
    whole = any(trace.fill for trace in figure.data)
    parts.caption(
        f"{_THIN if whole else _CROWDED} Bold: mean over seeds, ending where the first seed ends. Band: 95 % interval "
        f"of the mean. Hollow: a single seed, anecdotal. {_source(comparison, shown)}"
    )


def _source(comparison: Comparison, shown: list[str]) -> str:
    runs = comparison.frame[comparison.frame["arm"].isin(shown)]
    seeds = ", ".join(str(seed) for seed in sorted(runs["seed"].unique())[:12])
    return f"{words.plural(len(runs), 'run')} of {comparison.name}, seeds {seeds}."


def map_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """The r1 x r2 map; a click on a hatched cell offers to launch it."""
    cells, refusal = untried_cells(comparison)
    figure = heatmap_figure(comparison, shown, cells, look=look())
    event = _draw(
        figure, "compare-map", "Map of r1 by r2 per r with the metric and its interval", on_select="rerun",
        selection_mode="points",
    )  # fmt: skip
    parts.caption(
        "Colour: mean; in the cell, half of the 95 % interval. Hollow: one seed. Hatched: fits the layers, not tried; "
        f"click to launch it. Dotted: equal parameters. {refusal or ''} {_source(comparison, shown)}"
    )
    picked = [point.get("customdata") for point in event["selection"]["points"] if point.get("customdata")]
    cell = next((c for c in picked if len(c) == 4 and not c[3]), None)
    if cell is not None and chosen.sweep_ids:
        _offer(chosen, comparison, tuple(int(v) for v in cell[:3]), cells)


def _offer(chosen: Chosen, comparison: Comparison, cell: tuple[int, int, int], cells: pd.DataFrame) -> None:
    specs = specs_for(comparison, cell)
    row = cells[(cells["r1"] == cell[0]) & (cells["r2"] == cell[1]) & (cells["r"] == cell[2])]
    seconds = pd.to_numeric(comparison.frame["seconds"], errors="coerce").mean()
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        cost = (
            f"about {words.duration(len(specs) * seconds)} of training" if pd.notna(seconds) else "time not known yet"
        )
        count = parts.count_html(int(row["num_params"].iloc[0]), "parameters") if len(row) else ""
        parts.show(f"{parts.chip_html(cell)} {count} · {words.plural(len(specs), 'run')}, {cost}")
        request = st.session_state.setdefault(f"launch-{cell}", uuid.uuid4().hex)
        if st.button("Launch this cell", type="primary", key="compare-launch"):
            from cdka.engines.local import ensure_dispatcher

            store = data.store()
            store.submit(specs, sweep_id=chosen.sweep_ids[0], request_id=request)
            ensure_dispatcher(store)
            st.session_state.pop(f"launch-{cell}")
            st.toast(f"{words.plural(len(specs), 'run')} queued.")
            st.rerun()


def cost_panel(comparison: Comparison, shown: list[str]) -> None:
    """The metric against parameters, time or memory, with the front."""
    known = {COSTS[c]: c for c in COSTS if c in comparison.arms and comparison.arms[c].notna().any()}
    if not known:
        parts.show('<div class="cdka-quiet">No run has reported what it cost yet.</div>')
        return
    cost = known[st.selectbox("Cost", list(known), **state.bound("cost"))]
    _draw(
        scatter_figure(comparison, shown, cost, look=look()), "compare-cost",
        f"{comparison.measure.header} against {COSTS[cost]} with the Pareto front",
    )  # fmt: skip
    parts.caption(
        "Ringed: on the front, resolvedly better than everything as cheap. Pale: off it. Plain: these seeds cannot "
        f"tell. Hollow: one seed. Bars: 95 % intervals. {_source(comparison, shown)}"
    )


def difference_panel(comparison: Comparison, shown: list[str]) -> None:
    """Paired differences from the reference."""
    if comparison.verdicts.empty:
        parts.show('<div class="cdka-quiet">Nothing to compare yet: it takes two arms with a finished run each.</div>')
        return
    _draw(
        difference_figure(comparison, shown, look=look()), "compare-differences",
        "Paired differences from the reference with 95 % intervals",
    )  # fmt: skip
