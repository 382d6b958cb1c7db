"""Arms linked across a page: what is pointed at, or chosen in the table or a figure, stands out in every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import theme
from app.compare.headline_card import arm_chip_html
from cdka.compare.comparison import Comparison
from cdka.compare.figures.style import arm_colour

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LIT = "compare-lit"
"""The arm that the reader chose in the table or in a figure: every view of the room lights it up."""
MAX_LINKED = 60
"""Arms beyond this many light nothing up when pointed at: their style sheet would be long."""


@dataclass
class _Panel:
    """The places of traces among those of one panel, counted as its page counts them: by what they stand for."""

    whole: dict[str, list[int]] = field(default_factory=dict)
    points: dict[int, list[str]] = field(default_factory=dict)
    rings: dict[str, int] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    count: int = 0


def link(figure: Figure, comparison: Comparison) -> str:
    """A style sheet under which an arm that is pointed at or chosen stands out in ``figure``.

    A trace stands for one arm (a curve), or each of its points for one. Legends answer no click: it would take traces
    away, and with them their places.
    """
    _ring_cells(figure, comparison)
    figure.update_layout(legend={"itemclick": False, "itemdoubleclick": False})
    panels: dict[str, _Panel] = {}
    for trace in (trace for trace in figure.data if trace.type == "scatter"):
        panel = panels.setdefault((trace.xaxis or "x") + (trace.yaxis or "y"), _Panel())
        panel.count += 1
        arms = arms_of(trace, comparison)
        if "markers" in (trace.mode or ""):
            trace.unselected = {"marker": {"opacity": 1}}  # what is chosen is shown by the style sheet
        if trace.meta == _RING:
            panel.rings[str(arms)] = panel.count
        elif isinstance(arms, str):
            panel.whole.setdefault(arms, []).append(panel.count)
        elif isinstance(arms, list):
            panel.points[panel.count] = arms
        else:
            panel.others.append(panel.count)
    pointed = list(comparison.labels)[:MAX_LINKED]
    when = {arm: f'.stApp:has([data-arm="{arm}"]:is(:hover, :focus))' for arm in pointed}
    rules = [rule for arm in pointed for name, panel in panels.items() for rule in _rules(when[arm], name, panel, arm)]
    if (chosen := lit(comparison)) is not None:
        quiet = ".stApp:not(:has([data-arm]:is(:hover, :focus)))"
        rules += [rule for name, panel in panels.items() for rule in _rules(quiet, name, panel, chosen)]
    hidden = [
        f"{_at(name, place)} {{ opacity: 0 !important; }}"
        for name, panel in panels.items()
        for place in panel.rings.values()
    ]
    return f"<style>{' '.join([*hidden, *rules])}</style>"


def _at(panel: str, place: int) -> str:
    return f".js-plotly-plot .subplot.{panel} .scatterlayer > .trace:nth-child({place})"


def _rules(when: str, name: str, panel: _Panel, arm: str) -> list[str]:
    """The rules of one panel that dim every other arm, and show the ring of this arm's cell."""
    rules = []
    kept = [*panel.whole.get(arm, []), *panel.others, *panel.points, *panel.rings.values()]
    if len(kept) < panel.count:
        apart = "".join(f":not(:nth-child({place}))" for place in kept)
        rules.append(f"{when} .js-plotly-plot .subplot.{name} .scatterlayer > .trace{apart}")
    for place, arms in panel.points.items():
        own = "".join(f":not(:nth-child({i + 1}))" for i, other in enumerate(arms) if other == arm)
        rules += [f"{when} {_at(name, place)} {mark}{own}" for mark in ("path.point", ".errorbar")]
    rules = [f"{', '.join(rules)} {{ opacity: .13 !important; }}"] if rules else []
    ring = panel.rings.get(arm)
    return rules + ([f"{when} {_at(name, ring)} {{ opacity: 1 !important; }}"] if ring else [])


def arms_of(trace: Any, comparison: Comparison) -> str | list[str] | None:
    """The arm that a trace stands for, or that of each of its points; None where it stands for none."""
    known = comparison.labels
    by_label = {label: arm for arm, label in known.items()}
    if trace.name in by_label:
        return by_label[trace.name]
    rows = [] if trace.customdata is None else list(trace.customdata)
    arms = [str(row if isinstance(row, str) else row[-1]) for row in rows]
    return arms if arms and all(arm in known or not arm for arm in arms) and any(arms) else None


_RING = {"ring": True}


def _ring_cells(figure: Figure, comparison: Comparison) -> None:
    """Add an unseen ring around each cell of a map, one per arm: bars carry no id that a style sheet could name."""
    rings = []
    for bars in (trace for trace in figure.data if trace.type == "bar"):
        arms = arms_of(bars, comparison)
        for arm, x, base in zip(arms if isinstance(arms, list) else (), bars.x, bars.base, strict=False):
            left, right, top = x - 0.47, x + 0.47, base + 0.94
            rings.append(
                {
                    "type": "scatter",
                    "x": [left, right, right, left, left],
                    "y": [base, base, top, top, base],
                    "mode": "lines",
                    "line": {"color": theme.ink(), "width": 4},
                    "hoverinfo": "skip",
                    "name": comparison.labels[arm],
                    "meta": _RING,
                    "xaxis": bars.xaxis,
                    "yaxis": bars.yaxis,
                }
            )
    if rings:
        figure.add_traces(rings)


def lit(comparison: Comparison) -> str | None:
    """The chosen arm, where this comparison has it."""
    arm = st.session_state.get(LIT)
    return arm if arm in comparison.labels else None


def clicked(key: str, arms: list[str | list[str] | None]) -> None:
    """Choose the arm that was clicked in the figure of this ``key``; ``arms`` are those of its traces."""
    for point in st.session_state[key]["selection"]["points"]:
        number, place = point.get("curve_number", -1), point.get("point_index", 0)
        found = arms[number] if 0 <= number < len(arms) else None
        arm = found[place] if isinstance(found, list) and place < len(found) else found
        if isinstance(arm, str) and arm:
            st.session_state[LIT] = arm
            return


def legend_html(comparison: Comparison, arms: Sequence[str]) -> str:
    """The arms as chips in their colours; to point at one, or to reach it by keyboard, lights it up in the figure."""
    rows = comparison.arms.set_index("arm").loc[list(arms)].reset_index().to_dict("records")
    chosen = lit(comparison)
    chips = "".join(
        f'<span class="cdka-legend-item{" lit" if row["arm"] == chosen else ""}" data-arm="{row["arm"]}" tabindex="0">'
        f'<span class="cdka-swatch" style="background:{arm_colour(row, theme.current())}"></span>'
        f"{arm_chip_html(row['arm_label'])}</span>"
        for row in rows
    )
    return f'<div class="cdka-legend" role="group" aria-label="Arms, by colour">{chips}</div>'
