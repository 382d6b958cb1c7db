"""Style of figures: templates for Plotly and Altair, colours by meaning.

Plotly where the data stand still and people explore; Altair for what moves while training (Plotly would remount and
lose the zoom). Titles state the finding or the question; axes carry units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import plotly.graph_objects as go

from app import theme
from cdka import formatting, palette

METHOD_COLOURS = palette.METHODS
METHOD_DASHES = {"cdka": "solid", "lora": "dash", "lokr": "dashdot", "dora": "longdash", "full": "dot"}
METHOD_SYMBOLS = {"cdka": "circle", "lora": "square", "lokr": "diamond", "dora": "cross", "full": "x"}

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


def plotly(
    title: str,
    x: str,
    y: str,
    *,
    height: int = 380,
    iso: bool = False,
    revision: str = "kept",
) -> go.Figure:
    """An empty Plotly figure in our style. ``iso`` gives both axes the same scale; zoom survives equal ``revision``."""
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        height=height,
        margin={"l": 10, "r": 10, "t": 44, "b": 10},
        uirevision=revision,
        hovermode="closest",
        showlegend=False,
        xaxis_title=x,
        yaxis_title=y,
        hoverlabel={"align": "left"},
    )
    if iso:
        figure.update_yaxes(scaleanchor="x", scaleratio=1)
    figure.update_xaxes(showgrid=True, zeroline=False)
    figure.update_yaxes(showgrid=True, zeroline=False)
    return figure


def log_axis(figure: go.Figure, axis: str, values: Sequence[float]) -> go.Figure:
    """A logarithmic x or y axis around ``values`` with ticks at 1, 2, 5 times powers of ten, told in short."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.06, 0.05 * (high - low))
    ticks = [m * 10**e for e in range(math.floor(low) - 1, math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [tick for tick in ticks if low - margin <= math.log10(tick) <= high + margin]
    if len(inside) > 9:
        inside = [tick for tick in inside if f"{tick:e}"[0] == "1"]
    figure.update_layout(
        {
            f"{axis}axis": {
                "type": "log",
                "tickvals": inside,
                "ticktext": [formatting.count(tick) for tick in inside],
                "range": [low - margin, high + margin],
            }
        }
    )
    return figure


def altair(chart: alt.Chart | alt.LayerChart, title: str, *, height: int = 260) -> Any:
    """An Altair chart in our style."""
    return (
        chart.properties(title=alt.Title(title, anchor="start", fontSize=14, fontWeight=600), height=height)
        .configure_axis(
            gridOpacity=0.35, domain=False, tickSize=4, labelFontSize=11, titleFontSize=12, titleFontWeight="normal"
        )
        .configure_view(stroke=None)
    )


def thin(length: int, most: int = 300) -> list[int]:
    """Indices of the points to draw of ``length``: at most ``most``, even, the first and the last always among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})
