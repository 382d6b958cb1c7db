"""Predicted against measured alignment, a point per option: the Align room's figure, and a notebook's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cdka.compare.figures.style import dress, title
from cdka.components import Components
from cdka.palette import LIGHT, NEUTRAL, Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT = 340
FAINT = 0.25
"""Opacity of options with another r than the chosen one."""


def is_chosen(rows: pd.DataFrame, chosen: Components) -> pd.Series:
    """Mask of the rows of one configuration."""
    return (rows["r1"] == chosen.r1) & (rows["r2"] == chosen.r2) & (rows["r"] == chosen.r)


def agreement_figure(rows: pd.DataFrame, chosen: Components, step: str, *, theme: Theme = LIGHT) -> Figure:
    """Predicted against measured, a point per option, its spread over initialisations; the dashed line is equality.

    For a plain gradient step the A_i are not orthogonal: p becomes p / sqrt(1 + p^2), drawn as the finer curve.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    dress(figure, theme, height=HEIGHT)
    title(figure, "Is the prediction right?")
    top = float(np.nanmax(rows[["predicted", "measured"]].to_numpy())) * 1.05
    axis = {"range": [0, top], "nticks": 7}
    figure.update_layout(xaxis={"title": "predicted alignment", **axis}, yaxis={"title": "measured alignment", **axis})
    p = np.linspace(0, top, 60)
    line = {"color": NEUTRAL, "width": 1.2}
    figure.add_scatter(x=p, y=p, mode="lines", line={**line, "dash": "dash"}, hoverinfo="skip")
    if step == "gradient" and top > 0.4:
        finer = p / np.sqrt(1 + p**2)
        figure.add_scatter(x=p, y=finer, mode="lines", line=line, hoverinfo="skip")
        figure.add_annotation(
            x=p[34],
            y=finer[34],
            text="plain gradient: p / √(1 + p²)",
            showarrow=False,
            xanchor="left",
            yanchor="top",
            xshift=6,
            font={"size": 11, "color": NEUTRAL},
        )
    for some, opacity in ((rows[rows["r"] != chosen.r], FAINT), (rows[rows["r"] == chosen.r], 1.0)):
        figure.add_scatter(
            x=some["predicted"],
            y=some["measured"],
            error_y={"array": some["measured_sd"], "color": theme.accent, "thickness": 1.2, "width": 0},
            mode="markers",
            marker={"size": 8, "color": theme.accent},
            opacity=opacity,
            text=[f"r1 {r1} · r2 {r2} · r {r}" for r1, r2, r in some[["r1", "r2", "r"]].to_numpy()],
            hovertemplate="<b>%{text}</b><br>predicted %{x:.3f}<br>measured %{y:.3f}<extra></extra>",
        )
    ring = rows[is_chosen(rows, chosen)]
    figure.add_scatter(
        x=ring["predicted"],
        y=ring["measured"],
        mode="markers",
        hoverinfo="skip",
        marker={"size": 18, "symbol": "circle-open", "color": theme.ink, "line": {"width": 2}},
    )
    return figure
