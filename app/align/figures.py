"""Alignment over r1 by r2 as a map with parameters as contours, and predicted against measured."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from app import charts, theme, words

KINDS = {"predicted": "Predicted", "measured": "Measured", "best": "Best possible"}
TITLES = {
    "predicted": "What does theory predict? sqrt(r r2 / (r1 in))",
    "measured": "What does a real gradient say?",
    "best": "How much could any A capture? Upper bound from the SVD",
}


def map_of(rows: pd.DataFrame, kind: str, r: int, scale_top: float) -> alt.LayerChart:
    """Alignment by r1 (down) and r2 (across) for one r; each cell tells its value and its parameters.

    The colours span 0 to ``scale_top`` for every r and kind, so that maps can be compared.
    """
    shown = rows[rows["r"] == r].assign(
        value=lambda d: d[kind], params=lambda d: [words.count(n) for n in d["num_params"]]
    )
    base = alt.Chart(shown).encode(
        x=alt.X("r2:O", title="r2", axis=alt.Axis(labelAngle=0, titleColor=theme.letter('r2'), titleFontWeight="bold")),
        y=alt.Y("r1:O", title="r1", axis=alt.Axis(titleColor=theme.letter('r1'), titleAngle=0, titleFontWeight="bold")),
        tooltip=[
            "r1:O", "r2:O", "r:O", alt.Tooltip("num_params:Q", title="parameters", format=","),
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in KINDS if name in shown),
        ],
    )  # fmt: skip
    scale = alt.Scale(domain=[0, scale_top], range=list(theme.VIRIDIS), clamp=True)
    cells = base.mark_rect(stroke="#00000000").encode(color=alt.Color("value:Q", scale=scale, legend=None))
    on = alt.condition(f"datum.value > {0.55 * scale_top}", alt.value("#14181D"), alt.value("#FFFFFF"))
    value = base.mark_text(fontSize=13, fontWeight=600, dy=-7).encode(text=alt.Text("value:Q", format=".2f"), color=on)
    params = base.mark_text(fontSize=10.5, dy=9).encode(text="params:N", color=on)
    return charts.altair(alt.layer(cells, value, params), TITLES[kind], height=330)


def equal_cost(rows: pd.DataFrame, r: int) -> alt.Chart:
    """Alignment against parameters, a line per r1 along which r2 doubles: what equal cost buys."""
    shown = rows[rows["r"] == r]
    kind = "measured" if shown["measured"].notna().all() else "predicted"
    r1 = sorted(shown["r1"].unique())
    shades = [
        _mix("#F7C9A8", "#B4541A" if theme.is_dark() else "#7A3600", i / max(1, len(r1) - 1)) for i in range(len(r1))
    ]
    base = alt.Chart(shown).encode(
        order="r2:Q",
        x=alt.X("num_params:Q", title="trainable parameters", scale=alt.Scale(type="log"),
                axis=alt.Axis(format="~s", tickCount=5)),
        y=alt.Y(f"{kind}:Q", title=f"{kind} alignment (cosine)", scale=alt.Scale(domainMin=0)),
        color=alt.Color("r1:O", scale=alt.Scale(domain=r1, range=shades),
                        legend=alt.Legend(title="r1", orient="top-left", direction="horizontal")),
        tooltip=["r1:O", "r2:O", "r:O", alt.Tooltip("num_params:Q", format=","),
                 alt.Tooltip(f"{kind}:Q", format=".3f")],
    )  # fmt: skip
    chart = base.mark_line(point=alt.OverlayMarkDef(size=34, filled=True), strokeWidth=1.6)
    return charts.altair(chart, "Alignment follows r2/r1: the lines of all r1 share one curve", height=290)


def agreement(rows: pd.DataFrame, r: int) -> alt.LayerChart:
    """Predicted against measured, a point per option, its spread over initialisations; the dashed line is equality."""
    top = float(np.nanmax(rows[["predicted", "measured"]].to_numpy())) * 1.05
    told = rows.assign(
        low=rows["measured"] - rows["measured_sd"], high=rows["measured"] + rows["measured_sd"], now=rows["r"] == r
    )
    line = alt.Chart(pd.DataFrame({"x": [0, top], "y": [0, top]})).mark_line(strokeDash=[4, 3], color="#8A9099")
    x = alt.X("predicted:Q", title="predicted alignment", scale=alt.Scale(domain=[0, top]), axis=alt.Axis(tickCount=6))
    base = alt.Chart(told).encode(
        x=x, opacity=alt.condition("datum.now", alt.value(1.0), alt.value(0.25)),
        tooltip=["r1:O", "r2:O", "r:O", *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("predicted", "measured"))],
    )  # fmt: skip
    scale = alt.Scale(domain=[0, top])
    bars = base.mark_rule(strokeWidth=1.2, color=theme.accent()).encode(
        y=alt.Y("low:Q", title="measured alignment", scale=scale), y2="high:Q"
    )
    dots = base.mark_circle(size=46, color=theme.accent()).encode(
        y=alt.Y("measured:Q", title="measured alignment", scale=scale)
    )
    return charts.altair(
        alt.layer(line.encode(x="x:Q", y="y:Q"), bars, dots),
        f"Is the prediction right? Bold: r = {r}; bars: spread over initialisations", height=290,
    )  # fmt: skip


def prediction(points: pd.DataFrame, predictor: str, metric: str) -> alt.LayerChart:
    """Final metric of finished configurations against a predictor; hollow where there is one seed."""
    told = points.assign(
        low=points["mean"] - points["sd"], high=points["mean"] + points["sd"],
        name=[f"{r1},{r2},{r}" for r1, r2, r in zip(points["r1"], points["r2"], points["r"], strict=True)],
    )  # fmt: skip
    base = alt.Chart(told).encode(x=alt.X("predictor:Q", title=predictor, scale=alt.Scale(zero=False)))
    bars = base.mark_rule(color=theme.accent()).encode(
        y=alt.Y("low:Q", title=f"final {metric}", scale=alt.Scale(zero=False)), y2="high:Q"
    )
    dots = base.mark_point(size=52, color=theme.accent(), strokeWidth=2).encode(
        y=alt.Y("mean:Q", title=f"final {metric}", scale=alt.Scale(zero=False)),
        fill=alt.condition("datum.seeds > 1", alt.value(theme.accent()), alt.value("transparent")),
        tooltip=["name:N", "predictor:Q", "mean:Q", "sd:Q", "seeds:Q"],
    )  # fmt: skip
    names = base.mark_text(dx=7, align="left", fontSize=10.5, color=theme.ink()).encode(y="mean:Q", text="name:N")
    return charts.altair(alt.layer(bars, dots, names), "Does it predict the final result?", height=270)


def _mix(low: str, high: str, share: float) -> str:
    ends = [[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in (low, high)]
    return "#" + "".join(f"{round(a + share * (b - a)):02X}" for a, b in zip(*ends, strict=True))
