"""Live curves in Altair: validation accuracy first, training loss second, each configuration in one colour."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app import charts, theme
from app.basket import pretty

HEIGHT = 250


def colours(labels: list[str]) -> alt.Scale:
    """One colour per configuration, LoRA and its kin in their own; the same label keeps its colour while listed."""
    free, chosen = iter(charts.RUN_COLOURS * (1 + len(labels) // len(charts.RUN_COLOURS))), []
    for label in labels:
        method = label.split()[0]
        if method == "full":
            chosen.append(theme.ink())
        else:
            chosen.append(charts.METHOD_COLOURS.get(method) or next(free))
    return alt.Scale(domain=labels, range=chosen)


def _dashes(labels: list[str]) -> alt.Scale:
    kinds = {"lora": [6, 3], "lokr": [6, 2, 2, 2], "dora": [10, 3], "full": [2, 2]}
    return alt.Scale(domain=labels, range=[kinds.get(label.split()[0], [1, 0]) for label in labels])


def validation(points: pd.DataFrame, labels: list[str], total_steps: int, chance: float | None) -> alt.LayerChart:
    """Validation accuracy by step, one line per run, named at its end; ``chance`` as a dotted line."""
    x = alt.X("step:Q", title="training step", scale=alt.Scale(domain=[0, total_steps * 1.18], nice=False))
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("label:N", scale=colours(labels), legend=None)
    base = alt.Chart(points).encode(
        x=x, y=y, color=colour, detail="run:N",
        strokeDash=alt.StrokeDash("label:N", scale=_dashes(labels), legend=None),
        tooltip=[
            alt.Tooltip("label:N", title="configuration"), alt.Tooltip("seed:Q"), alt.Tooltip("step:Q"),
            alt.Tooltip("accuracy:Q", format=".3f"), alt.Tooltip("loss:Q", title="validation loss", format=".3f"),
            alt.Tooltip("run:N"),
        ],
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=2, interpolate="linear", point=alt.OverlayMarkDef(size=22, filled=True))
    layers = [lines, _names(points, labels, "accuracy", x, y, colour)]
    if chance is not None:
        rule = alt.Chart(pd.DataFrame({"accuracy": [chance], "name": ["chance"]}))
        layers.append(rule.mark_rule(strokeDash=[2, 3], opacity=0.6, color="#8A9099").encode(y="accuracy:Q"))
        layers.append(
            rule.mark_text(align="left", dx=4, dy=-6, color="#8A9099", fontSize=11).encode(
                y="accuracy:Q", x=alt.value(0), text="name:N"
            )
        )
    return charts.altair(alt.layer(*layers), "Does it generalise? Validation accuracy", height=HEIGHT)


def training(points: pd.DataFrame, labels: list[str], total_steps: int) -> alt.LayerChart:
    """Training loss by step: raw faint, smoothed bold."""
    x = alt.X("step:Q", title="training step", scale=alt.Scale(domain=[0, total_steps * 1.18], nice=False))
    colour = alt.Color("label:N", scale=colours(labels), legend=None)
    base = alt.Chart(points).encode(x=x, color=colour, detail="run:N")
    raw = base.mark_line(strokeWidth=1, opacity=0.22).encode(y=alt.Y("loss:Q", title="training loss (nats)"))
    smooth = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("smoothed:Q", title="training loss (nats)"),
        strokeDash=alt.StrokeDash("label:N", scale=_dashes(labels), legend=None),
        tooltip=[
            alt.Tooltip("label:N", title="configuration"), alt.Tooltip("seed:Q"), alt.Tooltip("step:Q"),
            alt.Tooltip("loss:Q", format=".3f"), alt.Tooltip("smoothed:Q", format=".3f"), alt.Tooltip("run:N"),
        ],
    )  # fmt: skip
    return charts.altair(
        alt.layer(raw, smooth), "Is it learning? Training loss, raw faint, smoothed bold", height=HEIGHT
    )


def _names(points: pd.DataFrame, labels: list[str], column: str, x: alt.X, y: alt.Y, colour: alt.Color) -> alt.Chart:
    """The configuration's name at the end of its longest line, moved apart where two would overlap."""
    ends = points.dropna(subset=[column]).sort_values("step").groupby("label", sort=False).tail(1).sort_values(column)
    heights, last = [], float("-inf")
    for value in ends[column]:
        last = max(value, last + 0.062)
        heights.append(last)
    excess = max(0.0, last - 0.99)
    ends = ends.assign(
        **{column: [height - excess for height in heights]}, name=[pretty(text) for text in ends["label"]]
    )
    return alt.Chart(ends).mark_text(align="left", dx=6, fontSize=11, fontWeight=600).encode(
        x=x, y=y, color=colour, text="name:N"
    )  # fmt: skip
