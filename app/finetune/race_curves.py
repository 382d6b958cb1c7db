"""Live curves in Vega-Lite: every run thin, the mean of each configuration bold with its band, in its own colour.

The specification is made once and stays the same while points arrive, so that the browser adds points to the chart it
has: no flicker, zoom kept. A configuration's colour follows from its identity, never from its place in a list.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app import charts, configurations, theme
from cdka import palette
from cdka.compare.figures.style import METHOD_DASHES
from cdka.stats.intervals import band

HEIGHT = 300
ROOM, MARGIN = 1.36, 1.04
"""The reach of the axis beyond the last step: room for names at the ends of lines, and for the last number."""
MAX_NAMES = 11
"""More configurations than fit along the axis are named on hover; the best are named at their lines."""
_GREY = palette.NEUTRAL
_POINTS = alt.Data(name="points")
_AS_TEXT = "(test(/^[0-9]/, datum.label) ? 'cdka ' : '') + datum.label"
"""A configuration's label as text has it everywhere: ``cdka 2,8,1`` for ``2,8,1``."""
_DASHES = {"solid": [1, 0], "dash": [6, 3], "dashdot": [6, 2, 2, 2], "longdash": [10, 3], "dot": [2, 2]}


def colours(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The colour of every configuration; full fine-tuning in the ink of the page."""
    return tuple(colour_of(label) for label in labels)


def colour_of(label: str) -> str:
    """The colour of the configuration that a label begins with; what stands behind `` · `` is its variant."""
    entry, _, variant = label.partition(" · ")
    valid, _ = configurations.split_valid([entry])
    if not valid:
        return _GREY
    found = configurations.run_settings(entry)
    if found["method"] == "full":
        return theme.ink()
    components = found["components"].as_tuple() if "components" in found else None
    return palette.configuration_colour(found["method"], components, found.get("rank"), variant)


def _colour(labels: tuple[str, ...], shown: tuple[str, ...]) -> alt.Color:
    return alt.Color("label:N", scale=alt.Scale(domain=list(labels), range=list(shown)), legend=None)


def _dash(labels: tuple[str, ...]) -> alt.StrokeDash:
    dashes = [_DASHES[METHOD_DASHES.get(label.split()[0], "solid")] for label in labels]
    return alt.StrokeDash("label:N", scale=alt.Scale(domain=list(labels), range=dashes), legend=None)


def _x(total_steps: int, room: float) -> alt.X:
    scale = alt.Scale(domain=[0, total_steps * room], nice=False)
    return alt.X("step:Q", title="training step", scale=scale, axis=alt.Axis(values=_ticks(total_steps), format="d"))


def _ticks(total_steps: int) -> list[int]:
    """Round step numbers up to the last step, four to seven of them."""
    power = 10 ** math.floor(math.log10(max(1, total_steps)))
    gap = next(g for g in (power // 5, power // 4, power // 2, power, 2 * power) if g and total_steps / g <= 6)
    return list(range(0, total_steps + 1, gap))


def _specification(layers: list[alt.Chart]) -> dict[str, Any]:
    """The layers as a plain specification over the points that are handed to the browser beside it.

    Zooming by wheel waits for Shift, so that the page still scrolls where the pointer happens to be. Drawn as SVG,
    whose paths carry their configuration's label: a row of the list can light up its line.
    """
    zoom = alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]")
    first, *others = layers
    chart = charts.altair(alt.layer(first.add_params(zoom), *others, data=_POINTS), height=HEIGHT)
    specification = chart.to_dict()
    specification["transform"] = [{"calculate": _AS_TEXT, "as": "configuration"}]
    specification.pop("data"), specification.pop("datasets", None)
    return specification | {"usermeta": {"embedOptions": {"renderer": "svg"}}}


def _kind(chart: alt.Chart, kind: str) -> alt.Chart:
    return chart.transform_filter(f"datum.kind === '{kind}'")


@lru_cache(maxsize=64)
def validation(
    labels: tuple[str, ...],
    shown: tuple[str, ...],
    total_steps: int,
    chance: float | None,
    measure: str = "accuracy",
    top: float = 1.0,
) -> dict[str, Any]:
    """Validation ``measure`` by step: runs thin, means bold with 95 % bands, named at their ends; ``chance`` dotted.

    ``measure`` is accuracy, or loss where no answer was judged; its axis goes from zero to ``top``. Over the points of
    ``race_points``.
    """
    x = _x(total_steps, ROOM)
    scale = alt.Scale(domain=[0, top])
    y = alt.Y("score:Q", title=f"validation {measure}", scale=scale, axis=alt.Axis(tickCount=5))
    colour = _colour(labels, shown)
    near = alt.selection_point(name="near", fields=["label"], on="pointerover", clear="pointerout")

    def lit(bright: float, dim: float) -> Any:
        return alt.condition(near, alt.value(bright), alt.value(dim))

    base = alt.Chart().encode(x=x, color=colour, description="label:N")
    tooltip = [
        alt.Tooltip("configuration:N"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("step:Q"),
        alt.Tooltip("score:Q", title=f"mean {measure}", format=".3f"),
    ]
    layers = [
        _kind(base, "mean")
        .mark_area(clip=True)
        .encode(y=alt.Y("low:Q", scale=scale), y2="high:Q", opacity=lit(0.09, 0.01)),
        _kind(base, "seed").mark_line(strokeWidth=1, clip=True).encode(y=y, detail="run:N", opacity=lit(0.35, 0.05)),
        _kind(base, "mean")
        .mark_line(strokeWidth=2.4, clip=True)
        .encode(y=y, strokeDash=_dash(labels), opacity=lit(1, 0.12)),
        _kind(base, "mean")
        .mark_point(filled=True, size=26)
        .encode(y=y, tooltip=tooltip, opacity=lit(1, 0.12))
        .add_params(near),
        _kind(base, "mean")
        .transform_filter("isValid(datum.name)")
        .mark_text(align="left", dx=8, fontSize=11, fontWeight=600)
        .encode(y=alt.Y("name_at:Q"), text="name:N", opacity=lit(1, 0.25)),
    ]
    if chance is not None and measure == "accuracy":
        rule = alt.Chart(alt.Data(values=[{"score": chance, "step": total_steps * ROOM, "name": "chance"}]))
        layers.append(rule.mark_rule(strokeDash=[2, 3], opacity=0.6, color=_GREY).encode(y="score:Q"))
        layers.append(
            rule.mark_text(align="right", dy=8, color=_GREY, fontSize=11).encode(x="step:Q", y="score:Q", text="name:N")
        )
    return _specification(layers)


@lru_cache(maxsize=64)
def training(labels: tuple[str, ...], shown: tuple[str, ...], total_steps: int, top: float) -> dict[str, Any]:
    """Training loss by step from zero to ``top``: raw faint, smoothed bold.

    Over points with label, run, seed, step, loss, smoothed.
    """
    scale, axis = alt.Scale(domain=[0, top], clamp=True), alt.Axis(tickCount=5)
    base = alt.Chart().encode(
        x=_x(total_steps, MARGIN), color=_colour(labels, shown), detail="run:N", description="label:N"
    )
    raw = base.mark_line(strokeWidth=1, opacity=0.18, clip=True).encode(
        y=alt.Y("loss:Q", title="training loss (nats)", scale=scale, axis=axis)
    )
    smooth = base.mark_line(strokeWidth=1.7, clip=True).encode(
        y=alt.Y("smoothed:Q", title="training loss (nats)", scale=scale, axis=axis),
        strokeDash=_dash(labels),
        tooltip=[
            alt.Tooltip("configuration:N"),
            alt.Tooltip("seed:Q"),
            alt.Tooltip("step:Q"),
            alt.Tooltip("smoothed:Q", title="smoothed loss", format=".3f"),
        ],
    )
    return _specification([raw, smooth])


def top_loss(points: pd.DataFrame) -> float:
    """A round number above the highest loss; it seldom changes, and the axis with it."""
    top = 1.0 if points.empty else max(0.1, float(points["loss"].max(skipna=True) or 0.1))
    if not math.isfinite(top):
        return 1.0
    step = 10 ** math.floor(math.log10(top)) / 2
    return math.ceil(top / step) * step


def measure_of(points: pd.DataFrame) -> str:
    """The column to draw of validation points: ``accuracy``, or ``loss`` where none of them has an accuracy."""
    return "loss" if points["accuracy"].isna().all() and points["loss"].notna().any() else "accuracy"


def race_points(points: pd.DataFrame) -> pd.DataFrame:
    """Validation points of runs, and behind them their means: kind (seed or mean), label, run, step, score, ...

    The score is what ``measure_of`` chooses.

    A mean is over the seeds that have the step: ``seeds`` of them, with the 95 % band ``low`` to ``high`` from two on.
    The last mean of the best configurations has a ``name``, at heights ``name_at`` that do not overlap.
    """
    measure = measure_of(points)
    runs = points.assign(score=points[measure].astype("float64"), kind="seed").dropna(subset=["score"])
    means = _means(runs, 1.0 if measure == "accuracy" else math.inf)
    top = 1.0 if measure == "accuracy" else top_loss(points)
    return (
        pd.concat([runs, named(means, top)], ignore_index=True)
        if len(means)
        else runs.assign(name=None, name_at=np.nan)
    )


def _means(runs: pd.DataFrame, most: float) -> pd.DataFrame:
    if runs.empty:
        return pd.DataFrame()
    table = runs.pivot_table(index=["label", "step"], columns="run", values="score")
    n, mean, _, low, high = band(table.to_numpy())
    bands = {"score": mean, "low": np.clip(low, 0, most), "high": np.clip(high, 0, most), "seeds": n}
    return pd.DataFrame(bands, index=table.index).reset_index().assign(kind="mean")


def named(means: pd.DataFrame, top: float = 1.0) -> pd.DataFrame:
    """The means, the last of each of the highest with its ``name`` at a height of its own on an axis up to ``top``."""
    ends = means.sort_values("step", kind="stable").groupby("label", sort=False).tail(1)
    ends = ends.sort_values("score").tail(MAX_NAMES)
    heights, last = [], float("-inf")
    for value in ends["score"]:
        last = max(value, last + 0.085 * top)
        heights.append(last)
    excess = max(0.0, last - 0.965 * top)
    names = pd.Series([configurations.label(text) for text in ends["label"]], index=ends.index, dtype=object)
    places = pd.Series([height - excess for height in heights], index=ends.index, dtype="float64")
    return means.assign(name=names.reindex(means.index), name_at=places.reindex(means.index))
