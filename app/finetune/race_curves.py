"""Live curves in Vega-Lite: validation accuracy first, training loss second, each configuration in one colour.

What is drawn comes apart from how: the specification is made once and stays the same while points arrive, so that the
browser adds points to the chart it has (no flicker, zoom kept) and the server makes no chart twice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import altair as alt
import pandas as pd

from app import charts
from app.configurations import pretty
from cdka import palette

HEIGHT = 290
ROOM, MARGIN = 1.36, 1.04
"""How far the axis goes beyond the last step: so that names fit at the ends of the lines, and the last number does."""
_QUIET = palette.NEUTRAL
_POINTS = alt.Data(name="points")


def colours(labels: tuple[str, ...]) -> tuple[str, ...]:
    """One colour per configuration: shades of the sequential map for CDKA, their own colours for the baselines."""
    own = [label for label in labels if label.split()[0] not in (*charts.METHOD_COLOURS, "full")]
    shade = dict(zip(own, charts.shades(len(own)), strict=True)) if own else {}
    return tuple(shade.get(label) or charts.method_colour(label.split()[0]) for label in labels)


def _colour(labels: tuple[str, ...], shown: tuple[str, ...]) -> alt.Color:
    return alt.Color("label:N", scale=alt.Scale(domain=list(labels), range=list(shown)), legend=None)


def _dash(labels: tuple[str, ...]) -> alt.StrokeDash:
    kinds = {"lora": [6, 3], "lokr": [6, 2, 2, 2], "dora": [10, 3], "full": [2, 2]}
    dashes = [kinds.get(label.split()[0], [1, 0]) for label in labels]
    return alt.StrokeDash("label:N", scale=alt.Scale(domain=list(labels), range=dashes), legend=None)


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


def _specification(layers: list[alt.Chart], title: str) -> dict[str, Any]:
    """The layers as a plain specification over the points that are handed to the browser beside it.

    Zooming by wheel waits for Shift, so that the page still scrolls where the pointer happens to be.
    """
    zoom = alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]")
    first, *others = layers
    chart = charts.altair(alt.layer(first.add_params(zoom), *others, data=_POINTS), title, height=HEIGHT)
    specification = chart.to_dict()
    specification.pop("data"), specification.pop("datasets", None)
    return specification


@lru_cache(maxsize=64)
def validation(
    labels: tuple[str, ...], shown: tuple[str, ...], total_steps: int, chance: float | None
) -> dict[str, Any]:
    """Validation accuracy by step, one line per run, named at its end; ``chance`` as a dotted line.

    Over points with label, run, seed, step, accuracy, loss, and the names that ``named`` adds.
    """
    x = _x(total_steps, ROOM)
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    colour, base = _colour(labels, shown), alt.Chart()
    layers = [
        base.mark_line(
            strokeWidth=2, interpolate="linear", clip=True, point=alt.OverlayMarkDef(size=22, filled=True)
        ).encode(
            x=x,
            y=y,
            color=colour,
            detail="run:N",
            strokeDash=_dash(labels),
            tooltip=_tooltip(
                alt.Tooltip("accuracy:Q", format=".3f"), alt.Tooltip("loss:Q", title="validation loss", format=".3f")
            ),
        ),
        base.mark_text(align="left", dx=6, fontSize=11, fontWeight=600)
        .transform_filter("isValid(datum.name)")
        .encode(x=x, y=alt.Y("name_at:Q"), color=colour, text="name:N"),
    ]
    if chance is not None:
        rule = alt.Chart(alt.Data(values=[{"accuracy": chance, "step": total_steps * ROOM, "name": "chance"}]))
        layers.append(rule.mark_rule(strokeDash=[2, 3], opacity=0.6, color=_QUIET).encode(y="accuracy:Q"))
        layers.append(
            rule.mark_text(align="right", dy=8, color=_QUIET, fontSize=11).encode(
                x="step:Q", y="accuracy:Q", text="name:N"
            )
        )
    return _specification(layers, "Does it generalise? Validation accuracy")


@lru_cache(maxsize=64)
def training(labels: tuple[str, ...], shown: tuple[str, ...], total_steps: int, top: float) -> dict[str, Any]:
    """Training loss by step from zero to ``top``: raw faint, smoothed bold.

    Over points with label, run, seed, step, loss, smoothed.
    """
    scale, axis = alt.Scale(domain=[0, top], clamp=True), alt.Axis(tickCount=5)
    base = alt.Chart().encode(x=_x(total_steps, MARGIN), color=_colour(labels, shown), detail="run:N")
    raw = base.mark_line(strokeWidth=1, opacity=0.22, clip=True).encode(
        y=alt.Y("loss:Q", title="training loss (nats)", scale=scale, axis=axis)
    )
    smooth = base.mark_line(strokeWidth=2, clip=True).encode(
        y=alt.Y("smoothed:Q", title="training loss (nats)", scale=scale, axis=axis),
        strokeDash=_dash(labels),
        tooltip=_tooltip(alt.Tooltip("loss:Q", format=".3f"), alt.Tooltip("smoothed:Q", format=".3f")),
    )
    return _specification([raw, smooth], "Is it learning? Training loss (smoothed bold)")


def top_loss(points: pd.DataFrame) -> float:
    """A round number above the highest training loss; it seldom changes, and the axis with it."""
    top = 1.0 if points.empty else max(0.1, float(points["loss"].max(skipna=True) or 0.1))
    if not math.isfinite(top):
        return 1.0
    step = 10 ** math.floor(math.log10(top)) / 2
    return math.ceil(top / step) * step


def named(points: pd.DataFrame) -> pd.DataFrame:
    """The points, the last of each configuration with its ``name``, at heights ``name_at`` that do not overlap."""
    ends = points.dropna(subset=["accuracy"]).sort_values("step").groupby("label", sort=False).tail(1)
    ends = ends.sort_values("accuracy")
    heights, last = [], float("-inf")
    for value in ends["accuracy"]:
        last = max(value, last + 0.085)
        heights.append(last)
    excess = max(0.0, last - 0.965)
    names = pd.Series([pretty(text) for text in ends["label"]], index=ends.index, dtype=object)
    places = pd.Series([height - excess for height in heights], index=ends.index, dtype="float64")
    return points.assign(name=names.reindex(points.index), name_at=places.reindex(points.index))
