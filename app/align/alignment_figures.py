"""Alignment over r1 by r2 as a map with parameters as contours; theory against gradients; layers; and the outcome."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd
from scipy import special

from app import charts, theme
from app.align import alignment_tables
from cdka import formatting, palette
from cdka.align import AlignRequest
from cdka.compare.figures.alignment import is_chosen
from cdka.components import Components

KINDS = {"predicted": "Predicted", "measured": "Measured", "best": "Best possible"}
TITLES = {
    "predicted": "What does theory predict? √(r · r2 / (r1 · in_features))",
    "measured": "Measured on a real gradient",
    "best": "How much could any A capture? Upper bound from the SVD",
}
HEIGHT = 300
GREY = palette.NEUTRAL
_AROUND = {"x": 0.2, "y": 0.1}
"""The margin of a cell around its two numbers, in cells."""
PICKED = "picked"
"""The name of the selection that a click on the map makes."""


def map_of(rows: pd.DataFrame, kind: str, request: AlignRequest, chosen: Components, top: float) -> alt.LayerChart:
    """Alignment by r1 (down) and r2 (across) for one r; each cell tells its value, and picks its option when clicked.

    The colours span 0 to ``top`` for every r and kind, so that maps can be compared. White lines join equal parameters.
    """
    r1, r2 = request.r1_values, request.r2_values
    shown = rows[rows["r"] == chosen.r].assign(
        value=lambda d: d[kind],
        params=lambda d: [formatting.count(n) for n in d["num_params"]],
        x=lambda d: [r2.index(v) for v in d["r2"]],
        y=lambda d: [r1.index(v) for v in d["r1"]],
    )
    shown = shown.assign(x2=shown["x"] + 1, y2=shown["y"] + 1, cx=shown["x"] + 0.5, cy=shown["y"] + 0.5)
    for name, margin in _AROUND.items():
        shown[f"{name}_from"], shown[f"{name}_to"] = shown[name] + margin, shown[name] + 1 - margin
    across = alt.Scale(domain=[0, len(r2)], nice=False, zero=False)
    down = alt.Scale(domain=[0, len(r1)], nice=False, zero=False, reverse=True)
    x_axis, y_axis = _steps("r2", r2), _steps("r1", r1)
    scale = alt.Scale(domain=[0, top], range=list(theme.VIRIDIS), clamp=True)
    bar = alt.Legend(
        orient="bottom", title=f"{KINDS[kind].lower()} alignment (cosine)", gradientThickness=8, tickCount=5
    )
    colour = alt.Color("value:Q", scale=scale, legend=bar)
    base = alt.Chart(shown)
    cells = (
        base.mark_rect(cursor="pointer")
        .encode(
            x=alt.X("x:Q", title="r2", scale=across, axis=x_axis),
            x2="x2:Q",
            y=alt.Y("y:Q", title="r1", scale=down, axis=y_axis),
            y2="y2:Q",
            color=colour,
            tooltip=[
                "r1:O",
                "r2:O",
                "r:O",
                alt.Tooltip("num_params:Q", title="parameters", format=","),
                *(alt.Tooltip(f"{name}:Q", format=".3f") for name in KINDS if name in shown),
            ],
        )
        .add_params(alt.selection_point(name=PICKED, fields=["r1", "r2"]))
    )
    on = alt.condition(f"datum.value > {0.55 * top}", alt.value(palette.DARK.paper), alt.value(palette.WHITE))
    x, y = alt.X("cx:Q", scale=across), alt.Y("cy:Q", scale=down)
    behind = base.mark_rect(cursor="pointer").encode(  # no line of equal parameters runs through a number
        x=alt.X("x_from:Q", scale=across), x2="x_to:Q", y=alt.Y("y_from:Q", scale=down), y2="y_to:Q", color=colour
    )
    value = base.mark_text(fontSize=13, fontWeight=600, dy=-7).encode(
        x=x, y=y, text=alt.Text("value:Q", format=".2f"), color=on
    )
    params = base.mark_text(fontSize=10.5 if len(r2) < 10 else 9, dy=9).encode(x=x, y=y, text="params:N", color=on)
    here = base.transform_filter((alt.datum.r1 == chosen.r1) & (alt.datum.r2 == chosen.r2))
    ring = here.mark_rect(filled=False, stroke=theme.ink(), strokeWidth=2.5).encode(
        x=alt.X("x:Q", scale=across), x2="x2:Q", y=alt.Y("y:Q", scale=down), y2="y2:Q"
    )
    layers = [
        cells,
        *_contours(alignment_tables.contours(request, chosen.r), across, down, len(r2)),
        behind,
        value,
        params,
        ring,
    ]
    return charts.altair(alt.layer(*layers), TITLES[kind], height=max(HEIGHT, 150 + 36 * len(r1)))


def _steps(name: str, values: tuple[int, ...]) -> alt.Axis:
    """An axis with one unit per value, labelled in the middle of each."""
    labels = "[" + ", ".join(f"'{value:,}'" for value in values) + "]"
    return alt.Axis(
        values=[i + 0.5 for i in range(len(values))],
        labelExpr=f"{labels}[floor(datum.value)]",
        grid=False,
        ticks=False,
        labelAngle=0,
        titleAngle=0,
        titleColor=theme.letter(name),
        titleFontWeight="bold",
    )


def _contours(lines: pd.DataFrame, across: alt.Scale, down: alt.Scale, width: int) -> list[alt.Chart]:
    """Lines of equal parameters, each named where the wide one leaves the map: above it, or at its right."""
    if lines.empty:
        return []
    x, y = alt.X("x:Q", scale=across), alt.Y("y:Q", scale=down)
    drawn = (
        alt.Chart(lines)
        .mark_line(color=palette.WHITE, opacity=0.28, strokeWidth=1.1)
        .encode(x=x, y=y, detail=["level:N", "branch:N"], order="y:Q")
    )
    ends = lines[lines["branch"] == "wide"].sort_values("y").groupby("level").head(1)
    ends = ends.assign(name=[f"LoRA {level}" for level in ends["level"]], right=ends["x"] > width - 0.2)
    base = {"fontSize": 10.5, "color": theme.ink(), "clip": False}
    above = alt.Chart(ends[~ends["right"]]).mark_text(dy=-8, **base).encode(x=x, y=y, text="name:N")
    beside = alt.Chart(ends[ends["right"]]).mark_text(dx=4, align="left", **base).encode(x=x, y=y, text="name:N")
    return [drawn, above, beside]


def bargain(rows: pd.DataFrame, lora: pd.DataFrame, chosen: Components) -> alt.LayerChart:
    """Alignment against parameters: a line per r along which r2/r1 grows, and one of LoRA's rank."""
    kind = "measured" if rows["measured"].notna().all() else "predicted"
    shown = alignment_tables.bargains(rows).assign(name=lambda d: [f"r {r}" for r in d["r"]])
    values = sorted(shown["r"].unique().tolist())
    colour = alt.Color("r:O", scale=alt.Scale(domain=values, range=charts.shades(len(values))), legend=None)
    top = min(1.04, float(shown[kind].max()) * 1.06)
    x = alt.X(
        "num_params:Q",
        title="trainable parameters",
        scale=alt.Scale(type="log", nice=False, padding=26),
        axis=alt.Axis(format="~s", tickCount=5),
    )
    y = alt.Y(f"{kind}:Q", title=f"{kind} alignment (cosine)", scale=alt.Scale(domain=[0, top]))
    tooltip = [
        "r1:O",
        "r2:O",
        "r:O",
        alt.Tooltip("num_params:Q", title="parameters", format=","),
        alt.Tooltip(f"{kind}:Q", format=".3f"),
    ]
    base, ranks = alt.Chart(shown).encode(x=x, y=y), alt.Chart(lora).encode(x=x, y=y)
    ends = shown.sort_values("ratio").groupby("r").tail(1).drop_duplicates(kind)
    here = alt.Chart(rows[is_chosen(rows, chosen)]).encode(x=x, y=y)
    layers = [
        ranks.mark_line(color=theme.LORA, strokeWidth=1.8, strokeDash=[6, 3]),
        ranks.mark_square(size=60, filled=True, color=theme.LORA, opacity=1).encode(tooltip=tooltip),
        base.mark_line(strokeWidth=1.8).encode(color=colour, order="ratio:Q"),
        base.mark_circle(size=40, opacity=1).encode(color=colour, tooltip=tooltip),
        here.mark_point(size=190, strokeWidth=2, color=theme.ink()),
        alt.Chart(lora.tail(1))
        .mark_text(dx=8, align="left", fontSize=11, color=theme.LORA)
        .encode(x=x, y=y, text=alt.value("LoRA")),
        alt.Chart(ends)
        .mark_text(dx=-3, dy=-10, align="right", fontSize=11, color=theme.letter("r"), fontWeight=600)
        .encode(x=x, y=y, text="name:N"),
    ]
    return charts.altair(alt.layer(*layers), "For its price: a larger r2/r1, or more LoRA rank?", height=HEIGHT)


def by_layer(rows: pd.DataFrame, chosen: Components) -> alt.LayerChart:
    """Each layer's alignment for one configuration: predicted (tick), measured (dot with spread), best (hollow)."""
    y = alt.Y(
        "layer:N",
        sort=None,
        title=None,
        axis=alt.Axis(labelLimit=190, labelFontSize=10, tickSize=0, labelOverlap=False),
    )
    measured = bool(rows["measured"].notna().any())
    top = float(np.nanmax(rows[["predicted", "high", "best"]].to_numpy())) * 1.05
    scale = alt.Scale(domain=[0, min(1.02, top)], nice=False)
    base = alt.Chart(rows).encode(
        y=y,
        tooltip=[
            "layer:N",
            "count:Q",
            *(alt.Tooltip(f"{n}:Q", format=".3f") for n in KINDS),
            alt.Tooltip("share:Q", title="share of the gradient's energy", format=".1%"),
        ],
    )
    x = alt.X("predicted:Q", title="alignment (cosine)", scale=scale)
    layers = [base.mark_tick(color=GREY, thickness=2, size=11).encode(x=x)]
    if measured:
        dot = alt.X("measured:Q", scale=scale)
        size = alt.Size("share:Q", scale=alt.Scale(range=[22, 190], domainMin=0), legend=None)
        layers += [
            base.mark_rule(color=theme.accent(), strokeWidth=1.4).encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
            base.mark_circle(color=theme.accent(), opacity=1).encode(x=dot, size=size),
            base.mark_point(shape="diamond", size=52, color=theme.accent(), strokeWidth=1.3).encode(
                x=alt.X("best:Q", scale=scale)
            ),
        ]
    c = chosen
    title = f"Which layers align at cdka {c}?"
    return charts.altair(alt.layer(*layers), title, height=round(75 + len(rows) * max(13, min(24, 290 / len(rows)))))


def _apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Heights for names beside points, lifted where those of one x would overlap."""
    heights, gap = y.astype(float), 0.06 * max(float(np.ptp(y)), 1e-9)
    order = np.argsort(y)
    for place, i in enumerate(order):
        below = [heights[j] for j in order[:place] if abs(x[j] - x[i]) <= 0.05 * np.ptp(x)]
        heights[i] = max([heights[i], *(height + gap for height in below)])
    return heights


def prediction(points: pd.DataFrame, predictor: str, metric: str) -> alt.LayerChart:
    """Final metric of finished configurations against a predictor; hollow where there is one seed."""
    half = points["sd"] * special.stdtrit(points["seeds"] - 1, 0.975) / np.sqrt(points["seeds"])
    labelled = points.assign(
        low=points["mean"] - half,
        high=points["mean"] + half,
        name=[f"cdka {r1},{r2},{r}" for r1, r2, r in zip(points["r1"], points["r2"], points["r"], strict=True)],
        name_at=_apart(points["predictor"].to_numpy(), points["mean"].to_numpy()),
    )
    base = alt.Chart(labelled).encode(
        x=alt.X("predictor:Q", title=predictor, scale=alt.Scale(zero=False, padding=20), axis=alt.Axis(tickCount=7))
    )
    bars = base.mark_rule(color=theme.accent()).encode(
        y=alt.Y("low:Q", title=f"final {metric}", scale=alt.Scale(zero=False)), y2="high:Q"
    )
    dots = base.mark_point(size=52, color=theme.accent(), strokeWidth=2).encode(
        y=alt.Y("mean:Q", title=f"final {metric}", scale=alt.Scale(zero=False)),
        fill=alt.condition("datum.seeds > 1", alt.value(theme.accent()), alt.value("transparent")),
        tooltip=["name:N", "predictor:Q", "mean:Q", "sd:Q", "seeds:Q"],
    )
    names = base.mark_text(dx=8, align="left", fontSize=10.5, color=theme.ink()).encode(y="name_at:Q", text="name:N")
    return charts.altair(alt.layer(bars, dots, names), "Does it predict the final result?", height=HEIGHT)


def layers_caption(record: object | None, layers: pd.DataFrame) -> str:
    """Legend of the marks of ``by_layer``."""
    many = " Layers that share a row: mean, and the range over them." if (layers["count"] > 1).any() else ""
    if record is None:
        return f"Ticks: predicted from the layer's in_features.{many}"
    return (
        "Ticks: predicted; dots: measured, larger where the layer holds more of the gradient's energy, with the spread "
        f"over initialisations; diamonds: the most that any A could capture.{many}"
    )
