"""Curves: thin lines per seed, bold mean and band per arm, small multiples by r1, r2 or r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cdka.compare.comparison import Comparison
from cdka.compare.figures.style import DASHES, FACTOR_COLOURS, Look, faded, panels, place, spread_labels, title
from cdka.compare.intervals import band

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

X_TITLES = {
    "step": "step",
    "samples": "training samples",
    "elapsed_s": "training time (s)",
    "tokens": "training tokens",
}
THIN_ARMS = 24
"""Beyond this many arms single seeds are not drawn: they would hide the means."""
PAGE_WIDTH = 900
"""Pixels that the figure is assumed to have, to leave room for labels."""
LABELLED = 9
"""Beyond this many lines in a panel the labels at their ends would not fit: hover tells."""


@dataclass(frozen=True)
class Line:
    """The curve of one arm: seeds (n, points) on shared x, NaN where a seed has no value; x is the seeds' mean."""

    arm: str
    x: np.ndarray
    seeds: np.ndarray
    xs: np.ndarray
    run_ids: tuple[str, ...]

    @property
    def whole(self) -> np.ndarray:
        """The points that every seed has reached: the mean and its band end with the first seed that ends."""
        return np.isfinite(self.seeds).all(axis=0)


def lines(curves: pd.DataFrame, comparison: Comparison, shown: Sequence[str], x: str, y: str, kind: str) -> list[Line]:
    """One ``Line`` per shown arm with at least one point, seeds aligned by step. Failed runs draw no line."""
    runs = comparison.frame[comparison.frame["arm"].isin(shown) & ~comparison.frame["status"].isin(["failed", "lost"])]
    points = curves[curves["kind"] == kind].merge(runs[["run_id", "arm"]], on="run_id")
    points = points[points[y].notna()]
    found = []
    for arm in shown:
        own = points[points["arm"] == arm].drop_duplicates(["run_id", "step"], keep="last")
        if own.empty:
            continue
        values = own.pivot(index="run_id", columns="step", values=y)
        places = own.pivot(index="run_id", columns="step", values=x) if x != "step" else None
        xs = (
            np.broadcast_to(values.columns.to_numpy(dtype=float), values.shape) if places is None else places.to_numpy()
        )
        with np.errstate(invalid="ignore"):
            mean_x = np.nanmean(xs, axis=0)
        found.append(Line(arm, mean_x, values.to_numpy(dtype=float), np.asarray(xs, dtype=float), tuple(values.index)))
    return found


def factors_that_vary(arms: pd.DataFrame) -> list[str]:
    """Those of r1, r2 and r with more than one level among the cdka arms."""
    own = arms[arms["method"] == "cdka"]
    return [factor for factor in FACTOR_COLOURS if own[factor].nunique() > 1]


def curve_figure(
    curves: pd.DataFrame,
    comparison: Comparison,
    shown: Sequence[str],
    *,
    x: str = "step",
    y: str = "accuracy",
    kind: str = "eval",
    facet: str | None = None,
    look: Look | None = None,
) -> Figure:
    """The curves of the shown arms. ``facet`` is r1, r2, r or None; arms without components appear in every panel."""
    look = look or Look()
    arms = comparison.arms.set_index("arm").loc[[arm for arm in comparison.arms["arm"] if arm in set(shown)]]
    drawn = lines(curves, comparison, arms.index.to_list(), x, y, kind)
    levels = sorted(arms[facet].dropna().unique()) if facet else []
    figure = panels([f"{facet} = {level}" for level in levels] or [""], look=look)
    columns = min(4, max(1, len(levels)))
    colours, dashes, names = _encode(arms, facet, look)
    low, high = _range(drawn)
    for i, level in enumerate(levels or [None]):
        here = [
            line
            for line in drawn
            if level is None or pd.isna(arms.loc[line.arm, facet]) or arms.loc[line.arm, facet] == level
        ]
        for line in here:
            colour = colours[line.arm]
            if len(drawn) <= THIN_ARMS:
                figure.add_trace(_thin(line, comparison, faded(colour, 0.35)), **place(i, columns))
            for trace in _mean(line, comparison, colour, dashes[line.arm], look):
                figure.add_trace(trace, **place(i, columns))
        if len(here) <= LABELLED:
            ends = {line.arm: names[line.arm] for line in here}
            _label(figure, here, ends, colours, (low, high), columns, place(i, columns))
    figure.update_yaxes(range=[low, high])
    figure.update_xaxes(title_text=X_TITLES.get(x, x))
    what = ("training " if kind == "step" else "validation ") + y
    figure.update_yaxes(title_text=what, col=1)
    title(figure, _question(arms, what, facet))
    if not drawn:
        figure.add_annotation(text="no point yet", showarrow=False, font={"size": 14, "color": look.ink})
    return figure


def _question(arms: pd.DataFrame, what: str, facet: str | None) -> str:
    varying = factors_that_vary(arms)
    by = ", ".join(varying) if varying else "configuration"
    return f"How does {what} develop, by {by}?" + (f"  One panel per {facet}." if facet else "")


def _encode(arms: pd.DataFrame, facet: str | None, look: Look) -> tuple[dict, dict, dict]:
    """Colour, dash and label by arm: of the factors that vary within a panel, one is the shade, the next the dash."""
    varying = [factor for factor in factors_that_vary(arms) if factor != facet]
    shade = varying[0] if varying else None
    second = varying[1] if len(varying) > 1 else None
    own = arms[arms["method"] == "cdka"]
    ramp = {}
    if shade:
        levels = sorted(own[shade].dropna().unique())
        ramp = dict(zip(levels, look.ramp(shade, len(levels)), strict=True))
    dash = (
        {level: DASHES[i % len(DASHES)] for i, level in enumerate(sorted(own[second].dropna().unique()))}
        if second
        else {}
    )
    colours, dashes, names = {}, {}, {}
    unique = own.groupby([factor for factor in (facet, *varying) if factor]).size().max() == 1 if varying else False
    for arm, row in arms.iterrows():
        is_cdka = row["method"] == "cdka"
        colours[arm] = ramp[row[shade]] if is_cdka and shade else look.method(row["method"])
        dashes[arm] = (
            dash.get(row[second], "solid") if is_cdka and second else "dash" if row["method"] == "full" else "solid"
        )
        names[arm] = (
            " ".join(f"{factor} {row[factor]}" for factor in varying) if is_cdka and unique else row["arm_label"]
        )
    return colours, dashes, names


def _range(drawn: Sequence[Line]) -> tuple[float, float]:
    values = np.concatenate([line.seeds[np.isfinite(line.seeds)] for line in drawn]) if drawn else np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low or 1.0)
    return low - pad, high + pad


def _thin(line: Line, comparison: Comparison, colour: str):
    """All seeds of an arm as one trace, with gaps between them: 500 runs stay a few dozen traces."""
    import plotly.graph_objects as go

    seed = dict(zip(comparison.frame["run_id"], comparison.frame["seed"], strict=True))
    gap = np.full((len(line.run_ids), 1), np.nan)
    xs = np.hstack([line.xs, gap]).ravel().astype(np.float32)
    ys = np.hstack([line.seeds, gap]).ravel().astype(np.float32)
    text = np.repeat([f"seed {seed[run_id]} · {run_id}" for run_id in line.run_ids], line.seeds.shape[1] + 1)
    label = comparison.labels[line.arm]
    return go.Scatter(
        x=xs, y=ys, text=text, mode="lines", line={"color": colour, "width": 1}, connectgaps=False, name=label,
        hovertemplate=f"{label}<br>%{{text}}<br>%{{y:.4f}} at %{{x}}<extra></extra>",
    )  # fmt: skip


def _mean(line: Line, comparison: Comparison, colour: str, dash: str, look: Look) -> list:
    import plotly.graph_objects as go

    n, mean, _, low, high = band(line.seeds.T)
    label, whole = comparison.labels[line.arm], line.whole
    if len(line.run_ids) == 1:
        return [
            go.Scatter(
                x=line.x.astype(np.float32), y=line.seeds[0].astype(np.float32), mode="lines+markers", name=label,
                line={"color": colour, "width": 1.5, "dash": dash},
                marker={"size": 6, "color": look.paper, "line": {"color": colour, "width": 1.5}},
                hovertemplate=f"{label}: one seed, anecdotal<br>%{{y:.4f}} at %{{x}}<extra></extra>",
            )
        ]  # fmt: skip
    x, low, high, mean = (array[whole].astype(np.float32) for array in (line.x, low, high, mean))
    ends = np.stack([low, high, n[whole]], axis=1)
    return [
        go.Scatter(
            x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
            line={"width": 0}, fillcolor=faded(colour, 0.14), hoverinfo="skip", name=label,
        ),
        go.Scatter(
            x=x, y=mean, mode="lines+markers", name=label,
            line={"color": colour, "width": 2.6, "dash": dash},
            marker={"size": 5, "color": colour}, customdata=ends,
            hovertemplate=f"{label}<br>mean %{{y:.4f}} at %{{x}}"
            "<br>95 % interval %{customdata[0]:.4f} to %{customdata[1]:.4f}"
            "<br>%{customdata[2]:.0f} seeds<extra></extra>",
        ),
    ]  # fmt: skip


def _label(
    figure: Figure,
    here: Sequence[Line],
    names: dict,
    colours: dict,
    limits: tuple[float, float],
    columns: int,
    at: dict,
) -> None:
    ends = {}
    for line in here:
        usable = line.whole if line.whole.any() else np.isfinite(line.seeds).any(axis=0)
        ends[line.arm] = (float(line.x[usable][-1]), float(np.nanmean(line.seeds[:, usable][:, -1])))
    heights = spread_labels({arm: y for arm, (_, y) in ends.items()}, *limits)
    right = max((x for x, _ in ends.values()), default=0.0)
    for arm, y in heights.items():
        figure.add_annotation(
            x=right, y=y, text=names[arm], xanchor="left", xshift=6, showarrow=False, **at,
            font={"size": 11, "color": colours[arm]},
        )  # fmt: skip
    if ends:
        longest = max(len(names[line.arm]) for line in here)
        share = min(0.5, (6.4 * longest + 10) * columns / PAGE_WIDTH)  # what the longest label takes of a panel's width
        figure.update_xaxes(range=[0, right / (1 - share)], **at)
