"""Figures of a measured alignment, in Altair: the Align room's and the notebook's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cdka.components import Components
from cdka.palette import LIGHT, NEUTRAL, Theme

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 300


def styled(chart: alt.Chart | alt.LayerChart, title: str, *, height: int = 260) -> Any:
    """An Altair chart in our style."""
    import altair as alt

    return (
        chart.properties(title=alt.Title(title, anchor="start", fontSize=14, fontWeight=600), height=height)
        .configure_axis(
            gridOpacity=0.35, domain=False, tickSize=4, labelFontSize=11, titleFontSize=12, titleFontWeight="normal"
        )
        .configure_view(stroke=None)
    )


def is_chosen(rows: pd.DataFrame, chosen: Components) -> pd.Series:
    """Mask of the rows of one configuration."""
    return (rows["r1"] == chosen.r1) & (rows["r2"] == chosen.r2) & (rows["r"] == chosen.r)


def agreement(rows: pd.DataFrame, chosen: Components, step: str, *, theme: Theme = LIGHT) -> alt.LayerChart:
    """Predicted against measured, a point per option, its spread over initialisations; the dashed line is equality.

    For a plain gradient step the A_i are not orthogonal: p becomes p / sqrt(1 + p^2), drawn as the finer curve.
    """
    import altair as alt

    top = float(np.nanmax(rows[["predicted", "measured"]].to_numpy())) * 1.05
    told = rows.assign(
        low=rows["measured"] - rows["measured_sd"],
        high=rows["measured"] + rows["measured_sd"],
        now=rows["r"] == chosen.r,
        here=is_chosen(rows, chosen),
    )
    p = np.linspace(0, top, 60)
    theory = pd.DataFrame({"p": p, "equal": p, "finer": p / np.sqrt(1 + p**2)})
    scale = alt.Scale(domain=[0, top], nice=False)
    x = alt.X("predicted:Q", title="predicted alignment", scale=scale, axis=alt.Axis(tickCount=6))
    y = alt.Y("measured:Q", title="measured alignment", scale=scale)
    curves = alt.Chart(theory).encode(x=alt.X("p:Q", scale=scale))
    layers = [curves.mark_line(strokeDash=[4, 3], color=NEUTRAL).encode(y=alt.Y("equal:Q", scale=scale))]
    if step == "gradient" and top > 0.4:
        layers.append(curves.mark_line(color=NEUTRAL, strokeWidth=1.2).encode(y=alt.Y("finer:Q", scale=scale)))
        layers.append(
            alt.Chart(theory.iloc[[34]])
            .mark_text(align="left", dx=6, dy=14, fontSize=11, color=NEUTRAL, text="plain gradient: p / √(1 + p²)")
            .encode(x=alt.X("p:Q", scale=scale), y=alt.Y("finer:Q", scale=scale))
        )
    base = alt.Chart(told).encode(
        x=x,
        opacity=alt.condition("datum.now", alt.value(1.0), alt.value(0.25)),
        tooltip=["r1:O", "r2:O", "r:O", *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("predicted", "measured"))],
    )
    bars = base.mark_rule(strokeWidth=1.2, color=theme.accent).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    dots = base.mark_circle(size=46, color=theme.accent).encode(y=y)
    ring = alt.Chart(told[told["here"]]).mark_point(size=190, strokeWidth=2, color=theme.ink).encode(x=x, y=y)
    return styled(alt.layer(*layers, bars, dots, ring), "Is the prediction right?", height=HEIGHT)
