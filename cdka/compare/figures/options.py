"""Every option under the budget as a point: parameters against alignment or rank, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cdka import formatting, palette
from cdka.compare.figures.style import dress, thin, title
from cdka.components import Components
from cdka.palette import LIGHT, Theme
from cdka.solver import Option, Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEASURES = {"alignment": "predicted alignment (cosine)", "rank_bound": "rank bound of ΔW"}
MAX_POINTS, MAX_LORA = 1200, 60
MAX_NAMED = 4
"""Number of options at one place that are named."""


@dataclass(frozen=True)
class Place:
    """One point of the scatter: the option that stands for it, and the others that cost and measure the same."""

    option: Option
    others: tuple[Components, ...] = ()
    number: int = 0


def places(solution: Solution, measure: str) -> list[Place]:
    """Places of the scatter's points: every one with an unbeaten option, and an even sample of the rest.

    Many options cost and measure the same (alignment depends on r2/r1 and r only). The unbeaten one, else the best that
    is no LoRA, stands for them all; the others are named when one points at it.
    """
    c = solution.columns
    rows = np.arange(len(c))
    lora = (c.r1 == 1) & (c.r2 == 1)
    value = getattr(c, measure)
    rows = np.lexsort((rows, lora, ~solution.pareto, value, c.num_params))
    cost, value = c.num_params[rows], value[rows]
    starts = np.flatnonzero(np.r_[True, (np.diff(cost) != 0) | (np.diff(value) != 0)])
    ends = np.r_[starts[1:], len(rows)]
    unbeaten = solution.pareto[rows[starts]]
    front, rest = np.flatnonzero(unbeaten), np.flatnonzero(~unbeaten)
    front = front[thin(len(front), MAX_POINTS - 2)]
    rest = rest[thin(len(rest), max(2, MAX_POINTS - len(front)))]
    kept = np.sort(np.r_[front, rest]).astype(np.int64)
    found = []
    for option, start, end in zip(solution.at(rows[starts[kept]]), starts[kept], ends[kept], strict=True):
        more = rows[start + 1 : min(end, start + 1 + MAX_NAMED)]
        others = tuple(Components(int(c.r1[i]), int(c.r2[i]), int(c.r[i])) for i in more)
        found.append(Place(option, others, int(end - start - 1)))
    return found


def _lora(solution: Solution, measure: str, drawn: Sequence[Place]) -> list[Place]:
    """The LoRA ranks within the budget, evenly thinned out, each with what shares its place."""
    rows = np.flatnonzero((solution.columns.r1 == 1) & (solution.columns.r2 == 1))
    there = {(p.option.num_params, getattr(p.option, measure)): p for p in drawn if not p.option.is_lora}
    found = []
    for option in solution.at(rows[thin(len(rows), MAX_LORA)]):
        place = there.get((option.num_params, getattr(option, measure)))
        others = () if place is None else (place.option.components, *place.others)
        others = tuple(c for c in others if c != option.components)[:MAX_NAMED]
        found.append(Place(option, others, 0 if place is None else place.number))
    return found


def option_figure(
    solution: Solution,
    measure: str = "alignment",
    chosen: Option | None = None,
    basket: Sequence[Components] = (),
    *,
    theme: Theme = LIGHT,
) -> go.Figure:
    """The scatter of options. Points carry their components as customdata, so that a click can pick one."""
    import plotly.graph_objects as go

    figure = go.Figure()
    dress(figure, theme, height=345)
    title(figure, "What does each parameter buy? Up is better, left is cheaper")
    figure.update_layout(
        xaxis_title="trainable parameters", yaxis_title=MEASURES[measure], uirevision=measure, margin={"l": 12}
    )
    drawn, budget = places(solution, measure), solution.budget_params
    everything = [*(place.option for place in drawn), *([chosen] if chosen else [])]
    log_axis(figure, "x", [*(option.num_params for option in everything), budget])
    if measure == "rank_bound":
        log_axis(figure, "y", [option.rank_bound for option in everything])
    elif everything and np.ptp(values := [getattr(option, measure) for option in everything]) < 1e-3 * max(values):
        figure.update_yaxes(range=[0, 2 * max(values)])  # one height for all: ticks of its last digits say nothing
    lora = _lora(solution, measure, drawn)
    squares = {(place.option.num_params, getattr(place.option, measure)) for place in lora}
    rest = [  # a dot in a square would take the click; pointing at the square names who else is there
        place
        for place in drawn
        if not place.option.is_lora
        and not place.option.pareto
        and (place.option.num_params, getattr(place.option, measure)) not in squares
    ]
    front = [place for place in drawn if not place.option.is_lora and place.option.pareto]
    edge = _edge([place.option for place in drawn if place.option.pareto], measure)
    figure.add_scatter(
        x=_x(edge),
        y=_y(edge, measure),
        mode="lines",
        line={"color": theme.accent, "width": 1.2, "shape": "hv"},
        opacity=0.6,
        hoverinfo="skip",
    )
    for some, marker in (
        (lora, {"size": 11, "symbol": "square-open", "color": palette.METHODS["lora"], "line": {"width": 1.8}}),
        (rest, {"size": 6, "opacity": 0.38, "color": theme.accent}),
        (front, {"size": 8, "color": theme.accent}),
    ):
        figure.add_scatter(
            x=_x([p.option for p in some]),
            y=_y([p.option for p in some], measure),
            mode="markers",
            marker=marker,
            hovertemplate="%{text}<extra></extra>",
            text=[_hover(place) for place in some],
            customdata=[str(place.option.components) for place in some],
        )
    compared = [option for c in basket if (option := solution.find(c)) is not None]
    _rings(figure, compared, measure, theme, size=13, width=1.2)
    if chosen is not None:
        _rings(figure, [chosen], measure, theme, size=20, width=2.4)
        figure.add_scatter(
            x=_x([chosen]),
            y=_y([chosen], measure),
            mode="markers",
            hovertemplate="%{text}<extra></extra>",
            text=[_hover(Place(chosen))],
            customdata=[str(chosen.components)],
            marker={"size": 11, "color": palette.METHODS["lora"] if chosen.is_lora else theme.accent},
        )
    figure.add_vline(x=budget, line={"color": palette.NEUTRAL, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=np.log10(budget),
        y=0,
        xref="x",
        yref="paper",
        text="budget ",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
        font={"size": 11, "color": palette.NEUTRAL},
    )
    if lora:
        cheapest = min((place.option for place in lora), key=lambda option: option.num_params)
        _name(figure, cheapest, measure, "LoRA", palette.METHODS["lora"])
    best = [option for option in edge if not option.is_lora] or [place.option for place in front]
    if best:
        _name(figure, best[-1], measure, "Pareto front", theme.accent)
    return figure


def _rings(figure: go.Figure, some: Sequence[Option], measure: str, theme: Theme, *, size: int, width: float) -> None:
    figure.add_scatter(
        x=_x(some),
        y=_y(some, measure),
        mode="markers",
        hoverinfo="skip",
        marker={"size": size, "symbol": "circle-open", "color": theme.ink, "line": {"width": width}},
    )


def _name(figure: go.Figure, option: Option, measure: str, name: str, colour: str) -> None:
    y = getattr(option, measure)
    figure.add_annotation(
        x=np.log10(option.num_params),
        y=np.log10(y) if measure == "rank_bound" else y,
        text=name,
        showarrow=False,
        xshift=-14 if name != "LoRA" else 0,
        yshift=-15 if name == "LoRA" else 0,
        font={"size": 12, "color": colour},
        xanchor="center" if name == "LoRA" else "right",
    )


def _edge(front: list[Option], measure: str) -> list[Option]:
    """The unbeaten options that are also best in this one measure for their cost."""
    best, edge = float("-inf"), []
    for option in sorted(front, key=lambda o: (o.num_params, -getattr(o, measure))):
        if getattr(option, measure) > best:
            best = getattr(option, measure)
            edge.append(option)
    return edge


def _x(some: Sequence[Option]) -> np.ndarray:
    return np.array([option.num_params for option in some], dtype=np.float32)


def _y(some: Sequence[Option], measure: str) -> np.ndarray:
    return np.array([getattr(option, measure) for option in some], dtype=np.float32)


def _hover(place: Place) -> str:
    option, c = place.option, place.option.components
    more = ""
    if place.number:
        named = "; ".join(str(other) for other in place.others)
        rest = place.number - len(place.others)
        more = f"<br>in the same place: {named}" + (f" and {rest:,} more" if rest else "")
    return (
        f"<b>r1 {c.r1} · r2 {c.r2} · r {c.r}</b>{', on the Pareto front' if option.pareto else ''}<br>"
        f"{option.num_params:,} parameters, {formatting.percent(option.budget_used)} of the budget<br>"
        f"alignment {option.alignment:.3f}, rank up to {option.rank_bound:,}<br>"
        f"scaling {option.scaling:.3g}, {formatting.percent(option.flops_overhead)} extra work{more}"
    )


def log_axis(figure: go.Figure, axis: str, values: Sequence[float]) -> go.Figure:
    """A logarithmic x or y axis around ``values`` with ticks at 1, 2, 5 times powers of ten in short form."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.06, 0.05 * (high - low))
    ticks = [m * 10**e for e in range(math.floor(low) - 1, math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [tick for tick in ticks if low - margin <= math.log10(tick) <= high + margin]
    if not inside:
        inside = sorted({min(values), max(values)})
    if len(inside) > 9:
        inside = [tick for tick in inside if f"{tick:e}"[0] == "1"]
    figure.update_layout(
        {
            f"{axis}axis": {
                "type": "log",
                "tickvals": inside,
                "ticktext": [formatting.count(tick) for tick in inside],
                "range": [low - margin, high + margin],
            }
        }
    )
    return figure
