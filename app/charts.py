"""Style of figures: templates for Plotly and Altair, colours by meaning.

Plotly where the data stand still and people explore; Altair for what moves while training (Plotly would remount and
lose the zoom). Titles state the finding or the question; axes carry units.
"""

from __future__ import annotations

import plotly.graph_objects as go

from app import theme
from cdka import palette
from cdka.align.figures import styled as altair

__all__ = [
    "METHOD_COLOURS",
    "METHOD_DASHES",
    "METHOD_SYMBOLS",
    "PLOTLY_CONFIG",
    "altair",
    "method_colour",
    "plotly",
    "shades",
]

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
