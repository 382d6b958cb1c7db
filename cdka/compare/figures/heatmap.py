"""The r1 x r2 map, one panel per r: value and interval in each cell, equal-parameter lines, untried cells hatched.

Cells are bars rather than a Plotly heatmap: bars can be hatched and can be clicked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cdka import palette
from cdka.compare.comparison import Comparison
from cdka.compare.figures.style import axes, drawn, panels
from cdka.formatting import count, estimate
from cdka.palette import LIGHT, Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SIZE = 0.94


def heatmap_figure(
    comparison: Comparison,
    shown: Sequence[str],
    untried: pd.DataFrame | None = None,
    *,
    columns: int = 3,
    theme: Theme = LIGHT,
) -> Figure:
    """One panel per r; each cell's ``customdata`` is (r1, r2, r, arm), arm empty where nothing was tried.

    ``untried`` has columns r1, r2, r and num_params. Where several arms share a cell (other settings differ) the cell
    shows the one with most seeds, then the first. Colours span the shown values; a single seed is hollow.
    At most ``columns`` panels stand beside one another.
    """
    cells = comparison.arms[(comparison.arms["method"] == "cdka") & comparison.arms["arm"].isin(shown)]
    cells = cells.sort_values("n", ascending=False, kind="stable").drop_duplicates(["r1", "r2", "r"])
    untried = pd.DataFrame(columns=["r1", "r2", "r", "num_params"]) if untried is None else untried
    levels = {f: sorted({int(v) for v in [*cells[f].dropna(), *untried[f]]}) for f in palette.FACTORS}
    spots = {factor: {level: i for i, level in enumerate(levels[factor])} for factor in ("r1", "r2")}
    known = cells[cells["n"] > 0]
    limits = (float(known["mean"].min()), float(known["mean"].max())) if len(known) else (0.0, 1.0)
    everything = pd.concat([cells[untried.columns], untried]) if len(untried) else cells
    traces, notes = [], []
    for i, r in enumerate(levels["r"]):
        traces.append(_tried(cells[cells["r"] == r], spots, limits, theme) | axes(i))
        rest = untried[untried["r"] == r]
        if len(rest):
            traces.append(_hatched(rest, spots, theme) | axes(i))
        for line in equal_parameter_lines(everything, r, levels):
            traces.append(_line(line, levels, theme) | axes(i))
            notes += _line_label(traces[-1], line, theme, i)
        notes += _cell_labels(traces, i)
    layout = panels(
        [f"r = {r}" for r in levels["r"]] or [""],
        theme=theme,
        columns=columns,
        height=120 + 62 * max(3, len(levels["r1"])),
        heading=f"Which r1 and r2 give the best {comparison.measure.header}?",
        x=_axis("r2", levels["r2"], theme),
        y=_axis("r1", levels["r1"], theme),
    )
    layout["annotations"] += notes
    return drawn(layout | {"barmode": "overlay", "bargap": 0, "clickmode": "event+select"}, traces)


def _axis(factor: str, levels: list[int], theme: Theme) -> dict:
    colour = {"color": theme.text(factor)}
    return {
        "tickvals": list(range(len(levels))),
        "ticktext": [str(level) for level in levels],
        "showgrid": False,
        "range": [-0.5, len(levels) - 0.5],
        "tickfont": colour,
        "title": {"text": factor, "font": colour},
    }


def _bars(rows: pd.DataFrame, spots: dict, **more) -> dict:
    return {
        "type": "bar",
        "x": [spots["r2"][int(v)] for v in rows["r2"]],
        "y": [SIZE] * len(rows),
        "width": SIZE,
        "base": [spots["r1"][int(v)] - SIZE / 2 for v in rows["r1"]],
        "unselected": {"marker": {"opacity": 1}},
        **more,
    }


def _tried(rows: pd.DataFrame, spots: dict, limits: tuple[float, float], theme: Theme) -> dict:
    text, hover, fill, edge = [], [], [], []
    for row in rows.to_dict("records"):
        words = estimate(row["mean"], row["ci_low"], row["ci_high"], row["n"])
        text.append(words.replace(" ± ", "<br>±").replace(" (", "<br>("))
        hover.append(f"{row['arm_label']}<br>{words}<br>{count(row['num_params'])} parameters")
        colour = _shade(row["mean"], limits)
        hollow = row["n"] < 2 or math.isnan(row["mean"])
        fill.append(theme.paper if hollow else colour)
        edge.append(colour if row["n"] else theme.grid)
    ink = [theme.ink if f == theme.paper else palette.readable_on(f) for f in fill]
    return _bars(
        rows,
        spots,
        hovertext=hover,
        hoverinfo="text",
        name="tried",
        meta={"words": text, "ink": ink},
        marker={"color": fill, "line": {"color": edge, "width": 2}},
        customdata=rows[["r1", "r2", "r", "arm"]].astype(object).to_numpy(),
    )


def _hatched(rows: pd.DataFrame, spots: dict, theme: Theme) -> dict:
    return _bars(
        rows,
        spots,
        name="untried",
        hoverinfo="text",
        hovertext=[
            f"r1 {r1}, r2 {r2}, r {r}: not tried<br>{count(params)} parameters<br>click to add it"
            for r1, r2, r, params in rows[["r1", "r2", "r", "num_params"]].itertuples(index=False)
        ],
        marker={
            "color": "rgba(0,0,0,0)",
            "line": {"color": theme.grid, "width": 1},
            "pattern": {
                "shape": "/",
                "size": 7,
                "solidity": 0.12,
                "fgcolor": theme.grid,
                "bgcolor": "rgba(0,0,0,0)",
            },
        },
        customdata=rows[["r1", "r2", "r"]].assign(arm="").astype(object).to_numpy(),
    )


def equal_parameter_lines(cells: pd.DataFrame, r: int, levels: dict[str, list[int]], count: int = 3) -> list[dict]:
    """Lines of equal num_params at this r: ``{"params", "ratio"}``, the ratio being r2 / r1 along the line.

    At fixed r the count is ``r * (out * ratio + in / ratio)`` summed over layers, so it depends on r2 / r1 alone:
    lines run along diagonals, and up to two of them cost the same. The two sums are fitted to the counts of the given
    cells, which determine them as soon as two ratios occur; none are drawn otherwise.
    """
    known = cells[cells["num_params"].notna()].astype({c: float for c in ("r1", "r2", "r", "num_params")})
    ratio = (known["r2"] / known["r1"]).to_numpy()
    if len(set(ratio)) < 2 or min(len(levels["r1"]), len(levels["r2"])) < 2:
        return []
    design = np.stack([known["r"] * ratio, known["r"] / ratio], axis=1)
    (sum_out, sum_in), *_ = np.linalg.lstsq(design, known["num_params"].to_numpy(), rcond=None)
    if min(sum_out, sum_in) <= 0:
        return []
    ratios = np.array([levels["r2"][0] / levels["r1"][-1], levels["r2"][-1] / levels["r1"][0]])
    costs = r * (sum_out * ratios + sum_in / ratios)
    least = 2 * r * math.sqrt(sum_out * sum_in)
    found = []
    for params in np.geomspace(least * 1.15, costs.max() * 0.8, count):
        root = math.sqrt(max(0.0, params**2 - 4 * r * r * sum_out * sum_in))
        both = ((params + sign * root) / (2 * r * sum_out) for sign in (-1, 1))
        found += [{"params": float(params), "ratio": float(q)} for q in both if ratios[0] < q < ratios[1]]
    return found


def _line(line: dict, levels: dict[str, list[int]], theme: Theme) -> dict:
    ends = [-0.5, len(levels["r1"]) - 0.5]
    rows = np.linspace(*ends, 60)
    log_r1, log_r2 = np.log2(levels["r1"]), np.log2(levels["r2"])
    columns = _position(_value(rows, log_r1) + np.log2(line["ratio"]), log_r2)
    inside = (columns >= -0.5) & (columns <= len(log_r2) - 0.5)
    return {
        "type": "scatter",
        "x": columns,
        "y": np.where(inside, rows, np.nan),
        "mode": "lines",
        "hoverinfo": "skip",
        "line": {"color": theme.ink, "width": 1, "dash": "dot"},
        "opacity": 0.6,
        "name": f"{count(line['params'])} parameters",
    }


def _line_label(trace: dict, line: dict, theme: Theme, panel: int) -> list[dict]:
    """The count of a line, near its upper end."""
    inside = np.flatnonzero(np.isfinite(trace["y"]))
    if not len(inside):
        return []
    at = inside[-min(4, len(inside))]
    return [
        _note(trace["x"][at], trace["y"][at], count(line["params"]), panel, theme.ink, size=10)
        | {"bgcolor": theme.paper, "opacity": 0.85, "borderpad": 1}
    ]


def _cell_labels(traces: list[dict], panel: int) -> list[dict]:
    """Values as annotations: text of the bars themselves would fade once a cell is clicked.

    Each stands on its cell's colour, so that no line of equal parameters runs through a number.
    """
    return [
        _note(x, base + SIZE / 2, words, panel, ink) | {"bgcolor": fill, "borderpad": 0}
        for trace in traces
        if trace.get("name") == "tried" and trace["xaxis"] == axes(panel)["xaxis"]
        for x, base, words, ink, fill in zip(
            trace["x"],
            trace["base"],
            trace["meta"]["words"],
            trace["meta"]["ink"],
            trace["marker"]["color"],
            strict=True,
        )
    ]


def _note(x: float, y: float, text: str, panel: int, colour: str, *, size: int = 11) -> dict:
    at = axes(panel)
    return {
        "x": float(x),
        "y": float(y),
        "text": text,
        "xref": at["xaxis"],
        "yref": at["yaxis"],
        "showarrow": False,
        "font": {"size": size, "color": colour},
    }


def _value(positions: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """log2 at positions between and half a cell beyond the levels."""
    grid = np.concatenate([[1.5 * logs[0] - 0.5 * logs[1]], logs, [1.5 * logs[-1] - 0.5 * logs[-2]]])
    return np.interp(positions, [-0.5, *range(len(logs)), len(logs) - 0.5], grid)


def _position(values: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """The inverse of ``_value``; NaN outside."""
    grid = np.concatenate([[1.5 * logs[0] - 0.5 * logs[1]], logs, [1.5 * logs[-1] - 0.5 * logs[-2]]])
    return np.interp(values, grid, [-0.5, *range(len(logs)), len(logs) - 0.5], left=np.nan, right=np.nan)


def _shade(value: float, limits: tuple[float, float]) -> str:
    """The colour of a value on the sequential scale."""
    if math.isnan(value):
        return palette.NEUTRAL
    low, high = limits
    return palette.sequential(0.5 if high <= low else (value - low) / (high - low))
