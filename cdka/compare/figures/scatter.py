"""Accuracy against cost with the front, and differences from the reference: one mark per arm, intervals shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cdka import palette
from cdka.compare.comparison import Comparison
from cdka.compare.figures.style import METHOD_SYMBOLS, arm_colour, dress, title
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
    comparison: Comparison, shown: Sequence[str], cost: str = "num_params", *, theme: Theme = LIGHT
) -> Figure:
    """One mark per shown arm with its 95 % interval; ``customdata`` is the arm.

    On the front: full size with a ring; ambiguous: full size; off: small and pale; one seed: hollow. The front is
    computed from all arms of the comparison, so hiding some moves nobody on or off it.
    """
    import plotly.graph_objects as go

    status = comparison.pareto(cost).copy()
    words = comparison.front_words(cost)
    status[words == "cheapest"] = AMBIGUOUS  # nothing costs less: it beats nobody by being there
    arms = comparison.arms[comparison.arms["arm"].isin(shown) & (comparison.arms["n"] > 0)]
    arms = arms[arms[cost].notna()].sort_values(cost)
    figure = go.Figure()
    dress(figure, theme, height=430)
    for _, front in arms[arms["arm"].map(status) == ON].groupby(["model", "task"], sort=False):
        if len(front) < 2:
            continue
        figure.add_trace(
            go.Scatter(
                x=front[cost].astype(float),
                y=front["mean"],
                mode="lines",
                hoverinfo="skip",
                line={"color": theme.ink, "width": 1, "dash": "dot", "shape": "hv"},
                name="front",
            )
        )
    for kind, size, alpha in ((OFF, 7, 0.45), (AMBIGUOUS, 11, 0.85), (ON, 13, 1.0)):
        rows = arms[arms["arm"].map(status) == kind]
        if len(rows):
            figure.add_trace(_marks(rows, comparison, cost, kind, size, alpha, theme))
    _label(figure, arms, cost, theme)
    ticks = _ticks(arms[cost].dropna().astype(float))
    figure.update_xaxes(title_text=COSTS[cost], type="log", tickvals=ticks, ticktext=[_amount(t, cost) for t in ticks])
    figure.update_yaxes(title_text=comparison.measure.header, range=_within(arms, comparison.measure.is_share))
    figure.update_layout(clickmode="event+select")
    title(figure, f"What does {comparison.measure.header} cost in {COSTS[cost].split(' (')[0]}?")
    return figure


def _within(arms: pd.DataFrame, share: bool) -> list[float] | None:
    """The range of the intervals, a little wider, and cut near what a share can be; None for Plotly."""
    if not share or arms.empty:
        return None
    low, high = np.nanmin([arms["ci_low"], arms["mean"]]), np.nanmax([arms["ci_high"], arms["mean"]])
    pad = 0.06 * ((high - low) or 0.1)
    return [max(float(low) - pad, -0.02), min(float(high) + pad, 1.02)]


def _label(figure: Figure, arms: pd.DataFrame, cost: str, theme: Theme) -> None:
    """Write each arm beside its mark where it covers no other label or mark; hover tells the rest."""
    if not 0 < len(arms) <= LABELLED:
        return
    x = np.log10(arms[cost].to_numpy(dtype=float))
    y = arms["mean"].to_numpy(dtype=float)
    low, high = np.nanmin([arms["ci_low"], arms["mean"]]), np.nanmax([arms["ci_high"], arms["mean"]])
    across = (x - x.min()) / (np.ptp(x) or 1.0) * 0.88 * PLOT_WIDTH
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
    figure.update_layout(
        annotations=[*figure.layout.annotations, *labels]
    )  # at once: one by one they are validated anew


def _ticks(values: pd.Series) -> list[float]:
    """Round numbers along a log axis, at least two: 1, 2, 5 times powers of ten."""
    if values.empty or values.min() <= 0:
        return []
    low, high = float(values.min()) / 1.3, float(values.max()) * 1.3
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    fine = [m * 10.0**e for e in exponents for m in (1, 1.5, 2, 3, 4, 5, 6, 8)]
    for chosen in ([10.0**e for e in exponents], [m * 10.0**e for e in exponents for m in (1, 2, 5)], fine):
        inside = [tick for tick in chosen if low <= tick <= high]
        if len(inside) > 2:
            return inside
    return inside


def _marks(rows: pd.DataFrame, comparison: Comparison, cost: str, kind: str, size: int, alpha: float, theme: Theme):
    import plotly.graph_objects as go

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
    above = (rows["ci_high"] - rows["mean"]).fillna(0).to_numpy()
    below = (rows["mean"] - rows["ci_low"]).fillna(0).to_numpy()
    ring = theme.ink if kind == ON else None
    return go.Scatter(
        x=rows[cost].astype(float),
        y=rows["mean"],
        mode="markers",
        text=words,
        hoverinfo="text",
        name=_front(kind),
        customdata=rows["arm"].to_numpy(dtype=object),
        error_y={"array": above, "arrayminus": below, "color": theme.faint, "thickness": 1.2, "width": 3},
        marker={
            "size": size,
            "color": fills,
            "symbol": [METHOD_SYMBOLS.get(m, "circle") for m in rows["family"]],
            "line": {"width": 2 if ring else 1.5, "color": ring or colours},
        },
    )


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
    import plotly.graph_objects as go

    found = comparison.verdicts
    found = found[found["a"].isin(shown) & found["difference"].notna()]
    figure = go.Figure()
    dress(figure, theme, height=110 + 22 * max(4, len(found)))
    labels = comparison.labels
    names = [
        f"{labels[a]}" + (f" − {labels[b]}" if comparison.all_pairs else "")
        for a, b in zip(found["a"], found["b"], strict=True)
    ]
    shade = {BETTER: palette.BETTER, WORSE: palette.WORSE}
    colours = [shade.get(verdict, theme.method("lora")) for verdict in found["verdict"]]
    notes = [row["verdict"] if row["verdict"] in shade else needs(row) for _, row in found.iterrows()]
    high = (found["ci_high"] - found["difference"]).fillna(0)
    low = (found["difference"] - found["ci_low"]).fillna(0)
    figure.add_vline(x=0, line={"color": theme.ink, "width": 1})
    figure.add_trace(
        go.Scatter(
            x=found["difference"],
            y=names,
            mode="markers",
            text=notes,
            hovertemplate="%{y}<br>%{x:+.4f}<br>%{text}<extra></extra>",
            customdata=found["a"].to_numpy(dtype=object),
            error_x={"array": high, "arrayminus": low, "color": theme.faint, "thickness": 1.5, "width": 3},
            marker={
                "size": 10,
                "line": {"color": colours, "width": 2},
                "symbol": [
                    {BETTER: "triangle-right", WORSE: "triangle-left"}.get(v, "circle") for v in found["verdict"]
                ],
                "color": [c if v in shade else theme.paper for c, v in zip(colours, found["verdict"], strict=True)],
            },
        )
    )
    reference = ", ".join(labels[arm] for arm in comparison.references)
    side = "right" if comparison.measure.higher_is_better else "left"
    figure.update_xaxes(
        title_text=f"difference in {comparison.measure.header}"
        + ("" if comparison.all_pairs else f" from {reference}")
        + f"; {side} is better"
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    title(figure, "Which differences do these seeds resolve?")
    return figure
