"""The look of Compare's figures: colours with one meaning, ramps for levels, panels, labels at the lines' ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FACTOR_COLOURS = {"r1": "#D55E00", "r2": "#0072B2", "r": "#009E73"}
"""Okabe-Ito: vermillion, blue and bluish green mean r1, r2 and r everywhere."""
METHOD_COLOURS = {"cdka": "#009E73", "lora": "#7A7F87", "lokr": "#CC79A7", "dora": "#A0825A"}
METHOD_SYMBOLS = {"cdka": "circle", "lora": "square", "lokr": "diamond", "dora": "cross", "full": "x"}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
FONT = "'Source Sans', 'Source Sans Pro', 'Segoe UI', sans-serif"
SEQUENTIAL = "Viridis"
DIVERGING = "RdBu"


@dataclass(frozen=True)
class Look:
    """The theme a figure is drawn for."""

    dark: bool = False

    @property
    def ink(self) -> str:
        """Text, axes, and full fine-tuning."""
        return "#E4E8EC" if self.dark else "#1D232B"

    @property
    def paper(self) -> str:
        """The background of the page."""
        return "#14181D" if self.dark else "#FDFDFB"

    @property
    def quiet(self) -> str:
        """Grid and hatching."""
        return "#3A424C" if self.dark else "#D5DAE0"

    def method(self, name: str) -> str:
        """The colour of a method; full fine-tuning is drawn in ink."""
        return self.ink if name == "full" else METHOD_COLOURS.get(name, self.ink)

    def ramp(self, factor: str, count: int) -> list[str]:
        """``count`` shades of a factor's colour, from its lowest level to its highest, apart from the paper."""
        base = np.array(_rgb(FACTOR_COLOURS[factor]), dtype=float)
        ends = ((0.45, 255), (0.38, 0)) if not self.dark else ((0.30, 0), (0.55, 255))
        out = []
        for t in np.linspace(-1, 1, count) if count > 1 else [0.0]:
            amount, towards = ends[0] if t < 0 else ends[1]
            out.append("#" + "".join(f"{round(c):02X}" for c in base + (towards - base) * amount * abs(t)))
        return out


def _rgb(colour: str) -> tuple[int, int, int]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def faded(colour: str, alpha: float) -> str:
    """``colour`` as rgba with the given opacity."""
    return f"rgba({', '.join(map(str, _rgb(colour)))}, {alpha})"


def panels(titles: Sequence[str], *, columns: int = 4, height: int = 360, look: Look, **axes: Any) -> Figure:
    """An empty figure of small multiples with shared axes, one panel per title, at most ``columns`` in a row."""
    from plotly.subplots import make_subplots

    wide = min(columns, max(1, len(titles)))
    rows = max(1, -(-len(titles) // wide))
    figure = make_subplots(
        rows=rows, cols=wide, subplot_titles=list(titles) if len(titles) > 1 else None,
        shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.04,
        vertical_spacing=0.14 if rows > 1 else 0, **axes,
    )  # fmt: skip
    if len(titles) > 1:
        figure.update_layout(margin_t=84)
    dress(figure, look, height=height if rows == 1 else 300 * rows + 60)
    return figure


def place(i: int, figure_columns: int) -> dict[str, int]:
    """Row and column of panel ``i``."""
    return {"row": i // figure_columns + 1, "col": i % figure_columns + 1}


def dress(figure: Figure, look: Look, *, height: int) -> None:
    """Our fonts, margins, grid and transparent ground."""
    figure.update_layout(
        height=height, margin={"l": 12, "r": 12, "t": 44, "b": 12}, showlegend=False, hovermode="closest",
        font={"color": look.ink, "size": 12, "family": FONT},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        uirevision="kept", hoverlabel={"align": "left"},
    )  # fmt: skip
    figure.update_xaxes(gridcolor=look.quiet, linecolor=look.quiet, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=look.quiet, linecolor=look.quiet, zeroline=False, automargin=True)


def title(figure: Figure, text: str) -> None:
    """The finding or the question, top left."""
    figure.update_layout(
        title={"text": text, "x": 0, "xanchor": "left", "y": 0.99, "yanchor": "top", "font": {"size": 15}}
    )


def spread_labels(heights: Mapping[str, float], low: float, high: float, gap: float = 0.055) -> dict[str, float]:
    """Where to write labels beside their lines so that none cover each other: at least ``gap`` of the range apart."""
    least = (high - low) * gap
    names = sorted(heights, key=heights.get)
    placed: list[float] = []
    for name in names:
        placed.append(max(heights[name], placed[-1] + least) if placed else heights[name])
    over = placed[-1] - high if placed else 0.0
    if over > 0:  # push the stack down again, from the top
        placed[-1] = high
        for i in range(len(placed) - 2, -1, -1):
            placed[i] = min(placed[i], placed[i + 1] - least)
    return dict(zip(names, placed, strict=True))
