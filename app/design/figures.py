"""Every option under the budget as a point: parameters against alignment or rank, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app import charts, theme, words
from cdka.components import Components
from cdka.solver import Option

MEASURES = {"alignment": "predicted alignment (cosine)", "rank_bound": "rank bound of ΔW"}
MOST_POINTS = 2500


def options(found: Sequence[Option], measure: str, chosen: Option | None, basket: Sequence[Components],
            budget_params: int) -> go.Figure:  # fmt: skip
    """The scatter of options. Points carry their components as customdata, so that a click can pick one."""
    title = "Which options are unbeaten? Up is better, left is cheaper"
    figure = charts.plotly(title, "trainable parameters", MEASURES[measure], height=345, revision=measure)
    everything = [*found, *([chosen] if chosen else [])]
    charts.log_axis(figure, "x", [*(option.num_params for option in everything), budget_params])
    if measure == "rank_bound":
        charts.log_axis(figure, "y", [option.rank_bound for option in everything])
    drawn = _drawn(found)
    lora = [option for option in drawn if option.is_lora]
    rest = [option for option in drawn if not option.is_lora and not option.pareto]
    front = [option for option in drawn if not option.is_lora and option.pareto]
    edge = _edge([option for option in drawn if option.pareto], measure)
    figure.add_scatter(
        x=_x(edge), y=_y(edge, measure), mode="lines", line={"color": theme.accent(), "width": 1.2, "shape": "hv"},
        opacity=0.6, hoverinfo="skip",
    )  # fmt: skip
    for some, marker in (
        (rest, {"size": 6, "opacity": 0.38, "color": theme.accent()}),
        (front, {"size": 8, "color": theme.accent()}),
        (lora, {"size": 8, "symbol": "square", "color": theme.LORA}),
    ):
        figure.add_scatter(
            x=_x(some), y=_y(some, measure), mode="markers", marker=marker, hovertemplate="%{text}<extra></extra>",
            text=[_hover(option) for option in some], customdata=[str(option.components) for option in some],
        )  # fmt: skip
    _rings(figure, [option for option in found if option.components in basket], measure, size=13, width=1.2)
    if chosen is not None:
        _rings(figure, [chosen], measure, size=20, width=2.4)
        figure.add_scatter(
            x=_x([chosen]), y=_y([chosen], measure), mode="markers", hovertemplate="%{text}<extra></extra>",
            text=[_hover(chosen)], marker={"size": 11, "color": theme.LORA if chosen.is_lora else theme.accent()},
        )  # fmt: skip
    figure.add_vline(x=budget_params, line={"color": "#8A9099", "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=np.log10(budget_params), y=0, xref="x", yref="paper", text="budget ", showarrow=False, xanchor="right",
        yanchor="bottom", font={"size": 11, "color": "#8A9099"},
    )  # fmt: skip
    if lora:
        _name(figure, min(lora, key=lambda option: option.num_params), measure, "LoRA", theme.LORA)
    best = [option for option in edge if not option.is_lora] or front
    if best:
        _name(figure, best[-1], measure, "unbeaten", theme.accent())
    return figure


def _rings(figure: go.Figure, some: Sequence[Option], measure: str, *, size: int, width: float) -> None:
    figure.add_scatter(
        x=_x(some), y=_y(some, measure), mode="markers", hoverinfo="skip",
        marker={"size": size, "symbol": "circle-open", "color": theme.ink(), "line": {"width": width}},
    )  # fmt: skip


def _name(figure: go.Figure, option: Option, measure: str, name: str, colour: str) -> None:
    y = getattr(option, measure)
    figure.add_annotation(
        x=np.log10(option.num_params), y=np.log10(y) if measure == "rank_bound" else y, text=name, showarrow=False,
        xshift=-14 if name != "LoRA" else 0, yshift=-15 if name == "LoRA" else 0, font={"size": 12, "color": colour},
        xanchor="center" if name == "LoRA" else "right",
    )  # fmt: skip


def _drawn(found: Sequence[Option]) -> list[Option]:
    """The options to draw: all that matter, and an even sample of the rest."""
    matter = [option for option in found if option.pareto or option.is_lora]
    others = [option for option in found if not (option.pareto or option.is_lora)]
    room = max(2, MOST_POINTS - len(matter))
    return matter + [others[j] for j in charts.thin(len(others), room)]


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


def _hover(option: Option) -> str:
    c = option.components
    return (
        f"<b>r1 {c.r1} · r2 {c.r2} · r {c.r}</b><br>{option.num_params:,} parameters, "
        f"{words.percent(option.budget_used)} of the budget<br>alignment {option.alignment:.3f}, rank up to "
        f"{option.rank_bound:,}<br>scaling {option.scaling:.3g}, {words.percent(option.flops_overhead)} extra work"
    )
