"""Style of figures: templates for Plotly and Altair, colours by meaning.

Plotly where the data stand still and people explore; Altair for what moves while training (Plotly would remount and
lose the zoom). Titles state the finding or the question; axes carry units.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import altair as alt
import plotly.graph_objects as go
import streamlit as st
from altair.utils.schemapi import Undefined

from app import theme, widgets
from cdka import palette
from cdka.compare.figures.style import METHOD_DASHES, METHOD_SYMBOLS

__all__ = [
    "METHOD_COLOURS",
    "METHOD_DASHES",
    "METHOD_SYMBOLS",
    "PLOTLY_CONFIG",
    "altair",
    "heading",
    "label",
    "level",
    "method_colour",
    "plotly",
    "ring",
    "shades",
    "show",
    "show_altair",
]

METHOD_COLOURS = palette.METHODS

PLOTLY_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def method_colour(method: str) -> str:
    """The colour of a method: LoRA grey, LoKr purple, full fine-tuning in the colour of the text."""
    return theme.ink() if method == "full" else METHOD_COLOURS[method]


def shades(number: int) -> list[str]:
    """``number`` colours that mean only their order: the part of the sequential map that this theme can show."""
    usable = theme.VIRIDIS[3:] if theme.is_dark() else theme.VIRIDIS[1:-2]
    if number == 1:
        return [usable[2]]
    return [usable[round(i * (len(usable) - 1) / (number - 1))] for i in range(number)]


def altair(chart: alt.Chart | alt.LayerChart, title: str = "", *, height: int = 260) -> Any:
    """An Altair chart in our style; ``show_altair`` puts its title above it."""
    return (
        chart.properties(height=height, **({"title": title} if title else {}))
        .configure_axis(
            gridOpacity=0.35, domain=False, tickSize=4, labelFontSize=11, titleFontSize=12, titleFontWeight="normal"
        )
        .configure_view(stroke=None)
    )


def plotly(
    title: str,
    x: str,
    y: str,
    data: Iterable[Mapping[str, Any]] = (),
    *,
    height: int = 380,
    xaxis: Mapping[str, Any] = MappingProxyType({}),
    yaxis: Mapping[str, Any] = MappingProxyType({}),
    **layout: Any,
) -> go.Figure:
    """A Plotly figure in our style: traces, axes and layout as plain dictionaries.

    All is made at once, since every later ``add_`` or ``update_`` of a figure takes as long as this; zoom survives.
    """
    axis = {"showgrid": True, "zeroline": False}
    style = {
        "title": {"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 44, "b": 10},
        "uirevision": "kept",
        "hovermode": "closest",
        "showlegend": False,
        "hoverlabel": {"align": "left"},
        "xaxis": {**axis, "title": {"text": x}, **xaxis},
        "yaxis": {**axis, "title": {"text": y}, **yaxis},
    }
    return go.Figure(data=list(data), layout={**style, **layout})


_TITLE_PX = 26
"""Pixels that a title takes of a Plotly figure's height and of its upper margin."""
_STYLED = re.compile(r"&lt;(/?(?:b|i|sub|sup))&gt;")


def heading(text: str) -> None:
    """The title of a figure, as a line above it that wraps: inside the figure a narrow window would cut it."""
    body = _STYLED.sub(r"<\1>", html.escape(text))
    widgets.html_block(f'<h2 class="cdka-figure-title">{body}</h2>')


def show(figure: go.Figure, key: str, alt: str, config: Mapping[str, Any] = PLOTLY_CONFIG, **settings: Any) -> Any:
    """Put a Plotly figure on the page, its title above it; returns the reader's selection.

    ``alt`` is its accessible name. The figure is changed: it must be the caller's own.
    """
    layout = figure.layout
    if layout.title.text:
        heading(layout.title.text)
        layout.title.text = None
        layout.margin.t -= _TITLE_PX
        layout.height -= _TITLE_PX
    st.html(f"<style>.st-key-{key} {{ min-height: {layout.height}px; }}</style>")  # its place, before Plotly is loaded
    return st.plotly_chart(figure, key=key, config=dict(config), alt=alt, **settings)


def show_altair(chart: alt.Chart | alt.LayerChart, key: str, alt: str, **settings: Any) -> Any:
    """Put an Altair chart of ours on the page, its title above it; returns the reader's selection."""
    heading(chart.title)
    chart.title = Undefined
    return st.altair_chart(chart, key=key, alt=alt, **settings)


def ring(x: float, y: float, ink: str = "", **rest: Any) -> dict[str, Any]:
    """The trace that marks one point as the reader's own: a ring in ``ink``, or in the colour of the text."""
    marker = {"symbol": "circle-open", "size": 20, "color": ink or theme.ink(), "line": {"width": 2.5}}
    return {"x": [x], "y": [y], "mode": "markers", "hoverinfo": "skip", "marker": marker, **rest}


def label(x: float, y: float, text: str, **rest: Any) -> dict[str, Any]:
    """The annotation that names a curve or a point where it stands. On a logarithmic axis, ``x`` is log10."""
    return {"x": x, "y": y, "text": text, "showarrow": False, **rest}


def level(height: float, text: str, *, ink: str, place: str, dash: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A named horizontal line across the figure: its shape and the annotation of its name.

    ``place`` is "top left" or "bottom right": where the name stands beside the line.
    """
    line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": height, "y1": height}
    above, left = place.startswith("top"), place.endswith("left")
    name = label(
        0 if left else 1,
        height,
        text,
        xref="x domain",
        xanchor="left" if left else "right",
        yanchor="bottom" if above else "top",
    )
    return {**line, "line": {"color": ink, "width": 1.5, "dash": dash}}, name
