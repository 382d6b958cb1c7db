"""Live curves in Altair: validation accuracy first, training loss second, each configuration in one colour."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from app import charts
from app.basket import pretty

HEIGHT = 290
ROOM = 1.36
"""How far the axis goes beyond the last step, so that the names fit at the ends of the lines."""
_QUIET = "#8A9099"


def colours(labels: list[str]) -> alt.Scale:
    """One colour per configuration: shades of the sequential map for CDKA, their own colours for the baselines."""
    own = [label for label in labels if label.split()[0] not in (*charts.METHOD_COLOURS, "full")]
    shade = dict(zip(own, charts.shades(len(own)), strict=True)) if own else {}
    chosen = [shade.get(label) or charts.method_colour(label.split()[0]) for label in labels]
    return alt.Scale(domain=labels, range=chosen)


def _dashes(labels: list[str]) -> alt.Scale:
    kinds = {"lora": [6, 3], "lokr": [6, 2, 2, 2], "dora": [10, 3], "full": [2, 2]}
    return alt.Scale(domain=labels, range=[kinds.get(label.split()[0], [1, 0]) for label in labels])


def _x(total_steps: int, room: float) -> alt.X:
    scale = alt.Scale(domain=[0, total_steps * room], nice=False)
    return alt.X("step:Q", title="training step", scale=scale, axis=alt.Axis(values=_ticks(total_steps), format="d"))


def _ticks(total_steps: int) -> list[int]:
    """Round step numbers up to the last step, four to seven of them."""
    power = 10 ** math.floor(math.log10(max(1, total_steps)))
    gap = next(g for g in (power // 5, power // 4, power // 2, power, 2 * power) if g and total_steps / g <= 6)
    return list(range(0, total_steps + 1, gap))


def _tooltip(*measures: alt.Tooltip) -> list[alt.Tooltip]:
    who = [alt.Tooltip("label:N", title="configuration"), alt.Tooltip("seed:Q"), alt.Tooltip("step:Q")]
    return [*who, *measures, alt.Tooltip("run:N")]


def validation(points: pd.DataFrame, labels: list[str], total_steps: int, chance: float | None) -> alt.LayerChart:
    """Validation accuracy by step, one line per run, named at its end; ``chance`` as a dotted line."""
    x = _x(total_steps, ROOM)
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    colour = alt.Color("label:N", scale=colours(labels), legend=None)
    lines = (
        alt.Chart(points)
        .mark_line(strokeWidth=2, interpolate="linear", point=alt.OverlayMarkDef(size=22, filled=True))
        .encode(
            x=x, y=y, color=colour, detail="run:N",
            strokeDash=alt.StrokeDash("label:N", scale=_dashes(labels), legend=None),
            tooltip=_tooltip(
                alt.Tooltip("accuracy:Q", format=".3f"), alt.Tooltip("loss:Q", title="validation loss", format=".3f")
            ),
        )
    )  # fmt: skip
    layers = [lines, _names(points, labels, "accuracy", x, y, colour)]
    if chance is not None:
        rule = alt.Chart(pd.DataFrame({"accuracy": [chance], "step": [total_steps * ROOM], "name": ["chance"]}))
        layers.append(rule.mark_rule(strokeDash=[2, 3], opacity=0.6, color=_QUIET).encode(y="accuracy:Q"))
        layers.append(
            rule.mark_text(align="right", dy=8, color=_QUIET, fontSize=11).encode(
                x="step:Q", y="accuracy:Q", text="name:N"
            )
        )
    return charts.altair(alt.layer(*layers), "Does it generalise? Validation accuracy", height=HEIGHT)


def training(points: pd.DataFrame, labels: list[str], total_steps: int) -> alt.LayerChart:
    """Training loss by step: raw faint, smoothed bold, from zero to a round number above the highest."""
    top = 1.0 if points.empty else max(0.1, float(points["loss"].max(skipna=True) or 0.1))
    step = 10 ** math.floor(math.log10(top)) / 2
    scale = alt.Scale(domain=[0, math.ceil(top / step) * step], clamp=True)
    axis = alt.Axis(tickCount=5)
    x = _x(total_steps, 1.0)
    colour = alt.Color("label:N", scale=colours(labels), legend=None)
    base = alt.Chart(points).encode(x=x, color=colour, detail="run:N")
    raw = base.mark_line(strokeWidth=1, opacity=0.22).encode(
        y=alt.Y("loss:Q", title="training loss (nats)", scale=scale, axis=axis)
    )
    smooth = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("smoothed:Q", title="training loss (nats)", scale=scale, axis=axis),
        strokeDash=alt.StrokeDash("label:N", scale=_dashes(labels), legend=None),
        tooltip=_tooltip(alt.Tooltip("loss:Q", format=".3f"), alt.Tooltip("smoothed:Q", format=".3f")),
    )
    return charts.altair(alt.layer(raw, smooth), "Is it learning? Training loss (smoothed bold)", height=HEIGHT)


def _names(points: pd.DataFrame, labels: list[str], column: str, x: alt.X, y: alt.Y, colour: alt.Color) -> alt.Chart:
    """The configuration's name at the end of its longest line, moved apart where two would overlap."""
    ends = points.dropna(subset=[column]).sort_values("step").groupby("label", sort=False).tail(1).sort_values(column)
    heights, last = [], float("-inf")
    for value in ends[column]:
        last = max(value, last + 0.085)
        heights.append(last)
    excess = max(0.0, last - 0.99)
    ends = ends.assign(
        **{column: [height - excess for height in heights]}, name=[pretty(text) for text in ends["label"]]
    )
    return alt.Chart(ends).mark_text(align="left", dx=6, fontSize=11, fontWeight=600).encode(
        x=x, y=y, color=colour, text="name:N"
    )  # fmt: skip
