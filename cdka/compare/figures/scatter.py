"""Accuracy against cost with the front, and differences from the reference: one mark per arm, intervals shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cdka import palette
from cdka.compare.comparison import Comparison
from cdka.compare.figures.style import METHOD_SYMBOLS, arm_colour, axes, drawn, panels
from cdka.formatting import count, estimate
from cdka.palette import LIGHT, Theme
from cdka.stats.paired import BETTER, WORSE, needs
from cdka.stats.pareto import AMBIGUOUS, OFF, ON

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COSTS = {
    "num_params": "trainable parameters",
    "seconds": "wall time of the process (s)",
    "peak_bytes": "peak memory of the process",
}
LABELLED = 30
"""Beyond this many arms no mark is named."""
PLOT_WIDTH, PLOT_HEIGHT = 800, 330
"""Pixels that the plot is assumed to have, to keep labels apart."""


def scatter_figure(
    comparison: Comparison,
    shown: Sequence[str],
    cost: str = "num_params",
    *,
    width: int = PLOT_WIDTH,
    theme: Theme = LIGHT,
) -> Figure:
    """One mark per shown arm with its 95 % interval; ``customdata`` is the arm.

    On the front: full size with a ring; ambiguous: full size; off: small and pale; one seed: hollow. The front is
    computed from all arms of the comparison, so hiding some moves nobody on or off it. Names are left out where they
    would overlap in a plot of ``width`` pixels.
    """
    status = comparison.pareto(cost).copy()
    words = comparison.front_words(cost)
    status[words == "cheapest"] = AMBIGUOUS  # nothing costs less: it beats nobody by being there
    arms = comparison.arms[comparison.arms["arm"].isin(shown) & (comparison.arms["n"] > 0)]
    arms = arms[arms[cost].notna()].sort_values(cost)
    what, ticks = comparison.measure.header, _ticks(arms[cost].dropna().astype(float))
    layout = panels(
        [""],
        theme=theme,
        columns=1,
        height=430,
        heading=f"What does {what} cost in {COSTS[cost].split(' (')[0]}?",
        x={
            "title": {"text": COSTS[cost]},
            "type": "log",
            "tickvals": ticks,
            "ticktext": [_amount(tick, cost) for tick in ticks],
        },
        y={"title": {"text": what}, "range": _within(arms, comparison.measure.is_share)},
    )
    traces = []
    for _, front in arms[arms["arm"].map(status) == ON].groupby(["model", "task"], sort=False):
        if len(front) > 1:
            traces.append(
                {
                    "type": "scatter",
                    "x": front[cost].astype(float).to_list(),
                    "y": front["mean"].to_list(),
                    "mode": "lines",
                    "hoverinfo": "skip",
                    "line": {"color": theme.ink, "width": 1, "dash": "dot", "shape": "hv"},
                    "name": "front",
                }
            )
    for kind, size, alpha in ((OFF, 7, 0.45), (AMBIGUOUS, 11, 0.85), (ON, 13, 1.0)):
        rows = arms[arms["arm"].map(status) == kind]
        if len(rows):
            traces.append(_marks(rows, comparison, cost, kind, size, alpha, theme))
    layout["annotations"] += _labels(arms, cost, width, theme)
    return drawn(layout | {"clickmode": "event+select"}, [trace | axes(0) for trace in traces])


def _within(arms: pd.DataFrame, share: bool) -> list[float] | None:
    """The range of the intervals, a little wider, and cut near what a share can be; None for Plotly."""
    if not share or arms.empty:
        return None
    low, high = np.nanmin([arms["ci_low"], arms["mean"]]), np.nanmax([arms["ci_high"], arms["mean"]])
    pad = 0.06 * ((high - low) or 0.1)
    return [max(float(low) - pad, -0.02), min(float(high) + pad, 1.02)]


def _labels(arms: pd.DataFrame, cost: str, width: int, theme: Theme) -> list[dict[str, Any]]:
    """The name of each arm beside its mark where it covers no other label or mark; hover shows the rest."""
    if not 0 < len(arms) <= LABELLED:
        return []
    x = np.log10(arms[cost].to_numpy(dtype=float))
    y = arms["mean"].to_numpy(dtype=float)
    low, high = np.nanmin([arms["ci_low"], arms["mean"]]), np.nanmax([arms["ci_high"], arms["mean"]])
    across = (x - x.min()) / (np.ptp(x) or 1.0) * 0.88 * width
    up = (y - low) / ((high - low) or 1.0) * 0.9 * PLOT_HEIGHT
    taken = [(px - 7, px + 7, py - 7, py + 7) for px, py in zip(across, up, strict=True)]
    labels: list[dict[str, Any]] = []
    for i in np.argsort(-y):
        row = arms.iloc[i]
        wide = 6.2 * len(row["arm_label"])
        for side, rise in ((1, 9), (1, -9), (-1, 9), (-1, -9), (1, 0), (-1, 0)):
            left = across[i] + 9 if side > 0 else across[i] - 9 - wide
            box = (left, left + wide, up[i] + rise - 6, up[i] + rise + 6)
            others = taken[:i] + taken[i + 1 :]
            if not any(box[0] < o[1] and o[0] < box[1] and box[2] < o[3] and o[2] < box[3] for o in others):
                taken.append(box)
                labels.append(
                    {
                        "x": float(x[i]),
                        "y": float(y[i]),
                        "text": row["arm_label"],
                        "showarrow": False,
                        "yshift": rise,
                        "xanchor": "left" if side > 0 else "right",
                        "xshift": 9 * side,
                        "font": {"size": 11, "color": arm_colour(row, theme)},
                    }
                )
                break
    return labels


def _ticks(values: pd.Series) -> list[float]:
    """Round numbers along a log axis, 1, 2, 5 times powers of ten; the ends themselves where these lie close."""
    if values.empty or values.min() <= 0:
        return []
    low, high = float(values.min()), float(values.max())
    if high < 1.3 * low:  # no round number is sure to lie on the axis
        return sorted({low, high})
    low, high = low / 1.3, high * 1.3
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    fine = [m * 10.0**e for e in exponents for m in (1, 1.5, 2, 3, 4, 5, 6, 8)]
    for chosen in ([10.0**e for e in exponents], [m * 10.0**e for e in exponents for m in (1, 2, 5)], fine):
        inside = [tick for tick in chosen if low <= tick <= high]
        if len(inside) > 2:
            return inside
    return inside


def _marks(
    rows: pd.DataFrame, comparison: Comparison, cost: str, kind: str, size: int, alpha: float, theme: Theme
) -> dict[str, Any]:
    """The marks of the arms that stand alike, with their intervals."""
    colours = [arm_colour(row, theme) for row in rows.to_dict("records")]
    fills = [
        theme.paper if n < 2 else palette.faded(colour, alpha) for colour, n in zip(colours, rows["n"], strict=True)
    ]
    standing = comparison.front_words(cost)
    words = [
        f"{row['arm_label']}<br>{estimate(row['mean'], row['ci_low'], row['ci_high'], row['n'])}"
        f"<br>{_amount(row[cost], cost)}, {COSTS[cost]}<br>{standing[row['arm']]}"
        for row in rows.to_dict("records")
    ]
    above, below = rows["ci_high"] - rows["mean"], rows["mean"] - rows["ci_low"]
    ring = theme.ink if kind == ON else None
    return {
        "type": "scatter",
        "x": rows[cost].astype(float).to_list(),
        "y": rows["mean"].to_list(),
        "mode": "markers",
        "text": words,
        "hoverinfo": "text",
        "name": _front(kind),
        "customdata": rows["arm"].to_list(),
        "error_y": _whiskers(above, below, theme, 1.2),
        "marker": {
            "size": size,
            "color": fills,
            "symbol": [METHOD_SYMBOLS.get(m, "circle") for m in rows["family"]],
            "line": {"width": 2 if ring else 1.5, "color": ring or colours},
        },
    }


def _whiskers(above: pd.Series, below: pd.Series, theme: Theme, thickness: float) -> dict[str, Any]:
    """The bars of intervals that reach so far above and below their points; none where they are not known."""
    return {
        "type": "data",
        "symmetric": False,
        "array": above.fillna(0).to_list(),
        "arrayminus": below.fillna(0).to_list(),
        "color": theme.faint,
        "thickness": thickness,
        "width": 3,
    }


def _amount(value: float, cost: str) -> str:
    """A cost in words: ``30.5 k``, ``612 MB``, ``13.2``."""
    if cost == "peak_bytes":
        return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"
    return f"{value:,.0f}" if cost == "num_params" and value < 1e4 else count(value)


def _front(kind: str) -> str:
    return {ON: "on the front", OFF: "off the front", AMBIGUOUS: "not resolved"}[kind]


def difference_figure(comparison: Comparison, shown: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """The paired difference of each shown arm from the reference, with its 95 % interval and verdict.

    Filled: resolved after Holm; hollow: not. Arms without a shared seed are left out.
    """
    found = comparison.verdicts
    found = found[found["a"].isin(shown) & found["difference"].notna()]
    labels = comparison.labels
    names = [
        f"{labels[a]}" + (f" − {labels[b]}" if comparison.all_pairs else "")
        for a, b in zip(found["a"], found["b"], strict=True)
    ]
    shade = {BETTER: palette.BETTER, WORSE: palette.WORSE}
    colours = [shade.get(verdict, theme.method("lora")) for verdict in found["verdict"]]
    notes = [row["verdict"] if row["verdict"] in shade else needs(row) for row in found.to_dict("records")]
    reference = ", ".join(labels[arm] for arm in comparison.references)
    against = "" if comparison.all_pairs else f" from {reference}"
    side = "right" if comparison.measure.higher_is_better else "left"
    layout = panels(
        [""],
        theme=theme,
        columns=1,
        height=110 + 22 * max(4, len(found)),
        heading="Which differences do these seeds resolve?",
        x={"title": {"text": f"difference in {comparison.measure.header}{against}; {side} is better"}},
        y={"autorange": "reversed", "showgrid": False},
    )
    marks = {
        "type": "scatter",
        "x": found["difference"].to_list(),
        "y": names,
        "mode": "markers",
        "text": notes,
        "hovertemplate": "%{y}<br>%{x:+.4f}<br>%{text}<extra></extra>",
        "customdata": found["a"].to_list(),
        "error_x": _whiskers(found["ci_high"] - found["difference"], found["difference"] - found["ci_low"], theme, 1.5),
        "marker": {
            "size": 10,
            "line": {"color": colours, "width": 2},
            "symbol": [{BETTER: "triangle-right", WORSE: "triangle-left"}.get(v, "circle") for v in found["verdict"]],
            "color": [c if v in shade else theme.paper for c, v in zip(colours, found["verdict"], strict=True)],
        },
    }
    zero = {"type": "line", "x0": 0, "x1": 0, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
    layout["shapes"] = [zero | {"line": {"color": theme.ink, "width": 1}}]
    return drawn(layout, [marks | axes(0)])
