"""The figures of the Compare room: drawn in the page's theme, clicked on, and saved as HTML, PNG or SVG."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app import charts, data, state, theme, widgets
from app.compare import arm_links, controls
from app.compare.sources import Chosen, axes, curves
from cdka import formatting
from cdka.compare.comparison import STOPPED_AT, Comparison
from cdka.compare.exports import figures
from cdka.compare.figures.curves import CROWDED, PAGE_WIDTH, X_TITLES, crowded, curve_figure, factors_that_vary
from cdka.compare.figures.heatmap import heatmap_figure
from cdka.compare.figures.scatter import COSTS, PLOT_WIDTH, difference_figure, scatter_figure
from cdka.compare.report import SHARED, provenance
from cdka.compare.untried import specs_for, untried_cells
from cdka.palette import LIGHT, Theme
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, TRAIN_LOSS, words_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PHONE_WIDTH = 300
"""Pixels of a plot in a window of 390."""
_CONFIG = charts.PLOTLY_CONFIG | {"toImageButtonOptions": {"format": "svg", "filename": "cdka-compare", "scale": 2}}


def draw(
    make: Callable[[Theme], Figure],
    name: str,
    alt: str,
    *,
    caption: str,
    source: str,
    comparison: Comparison | None = None,
) -> Any:
    """Draws ``make``'s figure with its caption and a way to save it; returns the reader's selection.

    ``source`` tells the runs and seeds: it ends the caption, and stands below the saved figure. With a ``comparison``
    its arms are linked to the table: pointing at one's chip lights it up here, and a click here chooses it there.
    """
    figure, more, key = make(theme.current()), {}, f"compare-{name}"
    if comparison is not None:
        st.html(arm_links.link(figure, comparison))
        arms = [arm_links.arms_of(trace, comparison) for trace in figure.data]
        more = {"on_select": partial(arm_links.clicked, key, arms), "selection_mode": "points"}
    event = charts.show(figure, key, alt, _CONFIG, theme=None, width="stretch", **more)
    text, saved = st.columns([5.4, 1], gap="small")
    with text:
        widgets.caption(f"{caption} {source}".strip())
    with saved, st.popover("Save", key=f"save-{name}", width="stretch", help="This figure as HTML, PNG or SVG"):
        save(lambda: figures.on_paper(make(LIGHT), source), name)
    return event


def save(on_paper: Callable[[], Figure], name: str, *, width: str = "stretch") -> None:
    """The buttons that save a figure, drawn only when one is pressed."""
    st.download_button(
        "HTML", lambda: figures.html(on_paper()), f"{name}.html", on_click="ignore", width=width, key=f"html-{name}"
    )
    for kind in figures.IMAGES:
        if st.button(kind.upper(), width=width, key=f"{kind}-{name}"):
            # the reader's own browser draws it: nothing else is needed, online or off
            st.iframe(figures.saving_page(on_paper(), kind, name), height=40, alt=f"Saving {name}.{kind}")


def _columns(wide: int) -> int:
    """The number of panels beside one another: ``wide``, or one in a window of a phone's width."""
    return 1 if theme.is_narrow() else wide


def _width(wide: int) -> int:
    """The pixels of a figure: ``wide``, or those of a phone."""
    return PHONE_WIDTH if theme.is_narrow() else wide


def pure(function: Callable[..., Figure], *arguments: Any, **settings: Any) -> Callable[[Theme], Figure]:
    """``function`` with everything but its theme."""
    made = partial(function, *arguments, **settings)
    return lambda colours: made(theme=colours)


CURVES = {words_of(metric): metric for metric in (EVAL_ACCURACY, EVAL_LOSS, TRAIN_LOSS)}
_THIN = "Thin: one seed."
_CROWDED = f"Seeds and bands are drawn in panels of up to {CROWDED} arms: show fewer to see them."


def curve_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """Accuracy and loss along the way, by step, samples, time or tokens, in panels."""
    along = {X_TITLES[axis]: axis for axis in axes(chosen.source)}
    which, across, panels = st.columns(3)
    name = which.selectbox("Curve", list(CURVES), **state.bound("curve"))
    controls.kept("axis", list(along))
    axis = along[across.selectbox("Along", list(along), **state.bound("axis"))]
    varying = factors_that_vary(comparison.arms)
    options = [state.default("facet"), "none", *(f"by {factor}" for factor in varying)]
    controls.kept("facet", options)
    picked = panels.selectbox("Panels", options, **state.bound("facet"))
    facet = (varying[0] if len(varying) > 1 else None) if picked == options[0] else picked.removeprefix("by ")
    facet = None if facet == "none" else facet
    metric = CURVES[name]
    points = curves(chosen, axis, metric)
    hidden = crowded(comparison, shown, facet)
    draw(
        pure(
            curve_figure,
            points,
            comparison,
            shown,
            x=axis,
            y=metric,
            facet=facet,
            columns=_columns(4),
            width=_width(PAGE_WIDTH),
        ),
        "curves",
        f"{name} by {X_TITLES[axis]}, one line per arm with its 95 % interval",
        caption=f"{_CROWDED if hidden else _THIN} Bold: mean over seeds, ending where the first seed ends. Band: 95 % "
        "interval of the mean. Hollow: a single seed, anecdotal.",
        source=provenance(comparison, shown),
        comparison=comparison,
    )


def map_panel(chosen: Chosen, comparison: Comparison, shown: list[str]) -> None:
    """The r1 x r2 map; a click on a hatched cell offers to launch it."""
    within, shown = _one_group(comparison, shown)
    cells, refusal = untried_cells(comparison, within)
    hatched = "Hatched: fits the layers, not tried" + ("; click to launch it." if chosen.sweep_ids else " there.")
    event = draw(
        pure(heatmap_figure, comparison, shown, cells, columns=_columns(3)),
        "map",
        "Map of r1 by r2 per r with the metric and its interval",
        caption=f"Colour: mean, {formatting.PLUS_MINUS}. Hollow: one seed. {hatched} Dotted: equal "
        f"parameters. {refusal or ''}",
        source=provenance(comparison, shown),
        comparison=comparison,
    )
    picked = [point.get("customdata") for point in event["selection"]["points"] if point.get("customdata")]
    cell = next((c for c in picked if len(c) == 4 and not c[3]), None)
    if cell is not None and chosen.sweep_ids:
        _offer(chosen, comparison, tuple(int(v) for v in cell[:3]), cells, within)


def _one_group(comparison: Comparison, shown: list[str]) -> tuple[list[str], list[str]]:
    """All arms, and the shown ones, of one model and task: a cell of the map has one value."""
    groups = {
        f"{group['model'].iloc[0]} on {group['task'].iloc[0]}{_stopped(group)}": group["arm"].to_list()
        for group in comparison.groups
        if (group["method"] == "cdka").any()
    }
    if len(groups) < 2:
        return next(iter(groups.values()), []), shown
    within = groups[controls.pick("map_of", "Model and task", list(groups))]
    return within, [arm for arm in shown if arm in within]


def _stopped(group: pd.DataFrame) -> str:
    step = group[STOPPED_AT].iloc[0] if STOPPED_AT in group else 0
    return f", stopped at step {step:,}" if step else ""


def _offer(
    chosen: Chosen, comparison: Comparison, cell: tuple[int, int, int], cells: pd.DataFrame, within: list[str]
) -> None:
    row = cells[(cells["r1"] == cell[0]) & (cells["r2"] == cell[1]) & (cells["r"] == cell[2])]
    if row.empty:
        return  # launched a moment ago: the click is still selected
    specs = specs_for(comparison, cell, within)
    seconds = pd.to_numeric(comparison.frame["seconds"], errors="coerce").mean()
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        cost = (
            f"about {formatting.duration(len(specs) * seconds)} of training"
            if pd.notna(seconds)
            else "time not known yet"
        )
        count = widgets.count_html(int(row["num_params"].iloc[0]), "parameters")
        widgets.html_block(f"{widgets.chip_html(cell)} {count} · {formatting.plural(len(specs), 'run')}, {cost}")
        request = st.session_state.setdefault(f"launch-{cell}", uuid.uuid4().hex)
        if st.button("Launch this cell", type="primary", key="compare-launch"):
            from cdka.sweep.launch import launch_runs

            store = data.store()
            runs = comparison.frame[comparison.frame["arm"].isin(within)]
            launch_runs(specs, store, sweep_id=runs["sweep_id"].iloc[0], request_id=request)
            st.session_state.pop(f"launch-{cell}")
            st.toast(f"{formatting.plural(len(specs), 'run')} queued.")
            st.rerun()


def cost_panel(comparison: Comparison, shown: list[str]) -> None:
    """The metric against parameters, time or memory, with the front."""
    known = {COSTS[c]: c for c in COSTS if c in comparison.arms and comparison.arms[c].notna().any()}
    if not known:
        widgets.html_block('<div class="cdka-quiet">No run has reported what it cost yet.</div>')
        return
    controls.kept("cost", list(known))
    cost = known[st.selectbox("Cost", list(known), **state.bound("cost"))]
    draw(
        pure(scatter_figure, comparison, shown, cost, width=_width(PLOT_WIDTH)),
        "cost",
        f"{comparison.measure.header} against {COSTS[cost]} with the Pareto front",
        caption="Ringed: on the front, better than everything no more expensive. Pale: off it. Plain: these seeds do "
        f"not resolve it. Hollow: one seed. Bars: 95 % intervals. {'' if cost == 'num_params' else SHARED}",
        source=provenance(comparison, shown),
        comparison=comparison,
    )


def difference_panel(comparison: Comparison, shown: list[str]) -> None:
    """Paired differences from the reference."""
    if comparison.verdicts.empty:
        widgets.html_block(
            '<div class="cdka-quiet">Nothing to compare yet: it takes two arms with a finished run each.</div>'
        )
        return
    draw(
        pure(difference_figure, comparison, shown),
        "differences",
        "Paired differences from the reference with 95 % intervals",
        caption="Triangles: resolved after Holm. Hollow circles: not resolved. Bars: 95 % interval of that pair alone.",
        source=provenance(comparison, shown),
        comparison=comparison,
    )
