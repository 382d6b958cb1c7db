"""Curves: thin lines per seed, bold mean and band per arm, small multiples by r1, r2 or r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cdka import palette
from cdka.compare.comparison import Comparison
from cdka.compare.figures.lines import Grid, Line, grid, lines
from cdka.compare.figures.style import (
    METHOD_DASHES,
    arm_colour,
    axes,
    drawn,
    panels,
    spread_labels,
)
from cdka.palette import LIGHT, Theme
from cdka.runs.metrics import EVAL_ACCURACY, words_of
from cdka.stats.intervals import band

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

X_TITLES = {
    "step": "step",
    "samples": "training samples",
    "elapsed_s": "training time (s)",
    "tokens": "training tokens",
}
CROWDED = 12
"""Beyond this many arms in a panel only means are drawn there: seeds and bands would hide them."""
PAGE_WIDTH = 900
"""Pixels of a figure on a page beside its table."""
LABELLED = 9
"""Beyond this many lines in a panel the labels at their ends would not fit: a legend names them."""


def factors_that_vary(arms: pd.DataFrame) -> list[str]:
    """Those of r1, r2 and r with more than one level among the cdka arms."""
    own = arms[arms["method"] == "cdka"]
    return [factor for factor in palette.FACTORS if own[factor].nunique() > 1]


def curve_figure(
    curves: pd.DataFrame | Grid,
    comparison: Comparison,
    shown: Sequence[str],
    *,
    x: str = "step",
    y: str = EVAL_ACCURACY,
    facet: str | None = None,
    columns: int = 4,
    width: int = PAGE_WIDTH,
    theme: Theme = LIGHT,
) -> Figure:
    """The curves of the shown arms. ``facet`` is r1, r2, r or None; arms without components appear in every panel.

    At most ``columns`` panels stand beside one another, in a figure of ``width`` pixels: its labels need the room.

    ``curves`` is ``Store.curves``, or the ``grid`` of its x and y where that is at hand.
    """
    points = curves if isinstance(curves, Grid) else grid(curves, x, y)
    wanted = set(shown)
    arms = comparison.arms[comparison.arms["arm"].isin(wanted)].set_index("arm")
    found = lines(points, comparison, arms.index.to_list())
    levels = sorted(arms[facet].dropna().unique()) if facet else []
    level_of = arms[facet].to_dict() if facet else {}
    columns = min(columns, max(1, len(levels)))
    encoding = _encode(arms, theme)
    limits = _range(found)
    what = words_of(y)
    layout = panels(
        [f"{facet} = {level}" for level in levels] or [""],
        theme=theme,
        columns=columns,
        height=380,
        heading=_question(arms, what, facet),
        x={"title": {"text": X_TITLES.get(x, x)}},
        y={"title": {"text": what}, "range": list(limits)},
    )
    traces = []
    crowd = False
    for i, level in enumerate(levels or [None]):
        here = [line for line in found if level is None or pd.isna(level_of[line.arm]) or level_of[line.arm] == level]
        traces += [trace | axes(i) for line in here for trace in _traces(line, comparison, encoding, theme, len(here))]
        if 0 < len(here) <= LABELLED:
            _label(layout, here, encoding, limits, width / columns, axes(i))
        crowd |= len(here) > LABELLED
    if crowd:
        _add_legend(layout, traces)
    if not found:
        layout["annotations"].append({"text": "no point yet", "showarrow": False, "font": {"size": 14}})
    return drawn(layout, traces)


def _add_legend(layout: dict, traces: list[dict]) -> None:
    """Name the lines beside the figure where a panel holds too many to name at their ends; a click hides one."""
    named: set[str] = set()
    for trace in traces:
        is_mean = "markers" in trace["mode"]
        trace |= {"legendgroup": trace["name"], "showlegend": is_mean and trace["name"] not in named}
        named |= {trace["name"]} if is_mean else set()
    layout |= {"showlegend": True, "legend": {"font": {"size": 11}, "tracegroupgap": 0, "itemsizing": "trace"}}


def crowded(comparison: Comparison, shown: Sequence[str], facet: str | None) -> bool:
    """True where a panel holds so many arms that only their means are drawn."""
    arms = comparison.arms[comparison.arms["arm"].isin(list(shown))]
    if not facet:
        return len(arms) > CROWDED
    everywhere = int(arms[facet].isna().sum())
    return bool((arms[facet].value_counts() + everywhere > CROWDED).any()) or everywhere > CROWDED


def _question(arms: pd.DataFrame, what: str, facet: str | None) -> str:
    varying = factors_that_vary(arms)
    by = ", ".join(varying) if varying else "configuration"
    return f"How does {what} develop, by {by}?" + (f" One panel for each {facet}." if facet else "")


@dataclass(frozen=True)
class _Encoding:
    """Colour, dash and name by arm: the configuration's own colour, the method's dash."""

    colours: dict[str, str]
    dashes: dict[str, str]
    names: dict[str, str]


def _encode(arms: pd.DataFrame, theme: Theme) -> _Encoding:
    rows = arms.reset_index().to_dict("records")
    return _Encoding(
        colours={row["arm"]: arm_colour(row, theme) for row in rows},
        dashes={row["arm"]: METHOD_DASHES[row["method"]] for row in rows},
        names={row["arm"]: row["arm_label"] for row in rows},
    )


def _range(found: Sequence[Line]) -> tuple[float, float]:
    values = np.concatenate([line.seeds[np.isfinite(line.seeds)] for line in found]) if found else np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low or 1.0)
    return low - pad, high + pad


def _traces(line: Line, comparison: Comparison, encoding: _Encoding, theme: Theme, count: int) -> list[dict]:
    """The traces of one arm: seeds, band and mean; beyond ``CROWDED`` arms the mean alone."""
    colour, dash, label = encoding.colours[line.arm], encoding.dashes[line.arm], comparison.labels[line.arm]
    if len(line.run_ids) == 1:
        return [_single(line, label, colour, dash, theme)]
    n, mean, _, low, high = band(line.seeds.T)
    alike = (n > 1) & np.isnan(low)  # before the first step, say: the band closes where the seeds agree
    low, high = np.where(alike, mean, low), np.where(alike, mean, high)
    whole = line.whole
    x, low, high, mean, n = (array[whole].astype(np.float32) for array in (line.x, low, high, mean, n))
    ends = "95 % interval %{customdata[0]:.4f} to %{customdata[1]:.4f}<br>%{customdata[2]:.0f} seeds"
    bold = {
        "type": "scatter",
        "x": x,
        "y": mean,
        "mode": "lines+markers",
        "name": label,
        "marker": {"size": 5, "color": colour},
        "line": {"color": colour, "width": 2.6, "dash": dash},
        "customdata": np.stack([low, high, n], axis=1),
        "hovertemplate": f"{label}<br>mean %{{y:.4f}} at %{{x}}<br>{ends}<extra></extra>",
    }
    if count > CROWDED:
        return [bold]
    around = {
        "type": "scatter",
        "x": np.concatenate([x, x[::-1]]),
        "y": np.concatenate([high, low[::-1]]),
        "fill": "toself",
        "mode": "lines",
        "line": {"width": 0},
        "fillcolor": palette.faded(colour, 0.14),
        "hoverinfo": "skip",
        "name": label,
    }
    return [_thin(line, comparison, label, palette.faded(colour, 0.35)), around, bold]


def _thin(line: Line, comparison: Comparison, label: str, colour: str) -> dict:
    """All seeds of an arm as one trace, with gaps between them."""
    seed = dict(zip(comparison.frame["run_id"], comparison.frame["seed"], strict=True))
    gap = np.full((len(line.run_ids), 1), np.nan)
    return {
        "type": "scatter",
        "x": np.hstack([line.xs, gap]).ravel().astype(np.float32),
        "mode": "lines",
        "name": label,
        "y": np.hstack([line.seeds, gap]).ravel().astype(np.float32),
        "connectgaps": False,
        "text": np.repeat([f"seed {seed[r]} · {r}" for r in line.run_ids], line.seeds.shape[1] + 1),
        "line": {"color": colour, "width": 1},
        "hovertemplate": f"{label}<br>%{{text}}<br>%{{y:.4f}} at %{{x}}<extra></extra>",
    }


def _single(line: Line, label: str, colour: str, dash: str, theme: Theme) -> dict:
    return {
        "type": "scatter",
        "x": line.x.astype(np.float32),
        "y": line.seeds[0].astype(np.float32),
        "name": label,
        "mode": "lines+markers",
        "line": {"color": colour, "width": 1.5, "dash": dash},
        "marker": {"size": 6, "color": theme.paper, "line": {"color": colour, "width": 1.5}},
        "hovertemplate": f"{label}: one seed, anecdotal<br>%{{y:.4f}} at %{{x}}<extra></extra>",
    }


def _label(
    layout: dict, here: Sequence[Line], encoding: _Encoding, limits: tuple[float, float], width: float, at: dict
) -> None:
    """Write each line's name at its end, and leave room for the longest in a panel of ``width`` pixels."""
    ends = {}
    for line in here:
        usable = line.whole if line.whole.any() else np.isfinite(line.seeds).any(axis=0)
        ends[line.arm] = (float(line.x[usable][-1]), float(np.nanmean(line.seeds[:, usable][:, -1])))
    heights = spread_labels({arm: y for arm, (_, y) in ends.items()}, *limits)
    right = max(x for x, _ in ends.values())
    layout["annotations"] += [
        {
            "x": right,
            "y": y,
            "text": encoding.names[arm],
            "xanchor": "left",
            "xshift": 6,
            "showarrow": False,
            "xref": at["xaxis"],
            "yref": at["yaxis"],
            "font": {"size": 11, "color": encoding.colours[arm]},
        }
        for arm, y in heights.items()
    ]
    longest = max(len(encoding.names[line.arm]) for line in here)
    share = min(0.5, (6.4 * longest + 10) / width)  # what the longest label takes of a panel's width
    layout["xaxis" + at["xaxis"][1:]]["range"] = [0, right / (1 - share)]
