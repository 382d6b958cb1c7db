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
FACTOR_INKS = {"r1": "#B34E00", "r2": "#00659E", "r": "#007A59"}
FACTOR_INKS_DARK = {"r1": "#FF9147", "r2": "#5DB5EE", "r": "#3CCB9E"}
METHOD_COLOURS = {"cdka": "#009E73", "lora": "#7A7F87", "lokr": "#CC79A7", "dora": "#A0825A"}
METHOD_SYMBOLS = {"cdka": "circle", "lora": "square", "lokr": "diamond", "dora": "cross", "full": "x"}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
FONT = "'Source Sans', 'Source Sans Pro', 'Segoe UI', sans-serif"
SEQUENTIAL = (
    "#433E85",
    "#38588C",
    "#2D708E",
    "#25858E",
    "#1E9B8A",
    "#2AB07F",
    "#52C569",
    "#86D549",
    "#C2DF23",
    "#FDE725",
)
"""Low to high, viridis without its darkest end."""
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

    @property
    def faint(self) -> str:
        """Error bars: quieter than a mark, plainer than the grid."""
        return "#77818C" if self.dark else "#98A1AB"

    def method(self, name: str) -> str:
        """The colour of a method; full fine-tuning is drawn in ink."""
        if name == "full":
            return self.ink
        return "#A5ABB3" if self.dark and name == "lora" else METHOD_COLOURS.get(name, self.ink)

    def text(self, factor: str) -> str:
        """A factor's colour where it is read as text: dark enough on light paper, light enough on dark."""
        return (FACTOR_INKS_DARK if self.dark else FACTOR_INKS)[factor]

    def ramp(self, factor: str, count: int) -> list[str]:
        """``count`` shades of a factor's colour, from its lowest level to its highest, apart from the paper."""
        base = np.array(rgb(FACTOR_COLOURS[factor]), dtype=float)
        # signed mixtures: with white above zero, with black below
        low, high = (0.15, 0.72) if self.dark else (0.45, -0.38)
        mixtures = np.linspace(low, high, count) if count > 1 else [0.15 if self.dark else 0.0]
        return [_hex(base + ((255 if m > 0 else 0) - base) * abs(m)) for m in mixtures]


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(float(channel)):02X}" for channel in colour)


def rgb(colour: str) -> tuple[int, int, int]:
    """The channels of a colour written ``#RRGGBB``."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def faded(colour: str, alpha: float) -> str:
    """``colour`` as rgba with the given opacity."""
    return f"rgba({', '.join(map(str, rgb(colour)))}, {alpha})"


def panels(
    titles: Sequence[str], *, look: Look, columns: int, height: int, heading: str, x: dict[str, Any], y: dict[str, Any]
) -> dict[str, Any]:
    """The layout of small multiples that zoom together, one panel per title, at most ``columns`` in a row.

    ``x`` and ``y`` are settings of every axis; the title of y stands at the left panels only. Plain data: Plotly
    takes a tenth of a second to check as much, at every click.
    """
    count = max(1, len(titles))
    wide = min(columns, count)
    rows = -(-count // wide)
    across, down = 0.035, 0.2 / rows
    width, tall = (1 - across * (wide - 1)) / wide, (1 - down * (rows - 1)) / rows
    look_of_axis = {"gridcolor": look.quiet, "linecolor": look.quiet, "zeroline": False, "automargin": True}
    layout = _page(look, height=height if rows == 1 else 300 * rows + 60) | {"annotations": []}
    layout["title"] = _heading(heading)
    if count > 1:
        layout["margin"] = layout["margin"] | {"t": 78}
    for i, text in enumerate(titles or [""]):
        at = axes(i)
        left, top = (i % wide) * (width + across), 1 - (i // wide) * (tall + down)
        linked = {"matches": "x"} if i else {}
        layout["xaxis" + at["xaxis"][1:]] = (
            look_of_axis | {"domain": _inside(left, left + width), "anchor": at["yaxis"]} | linked | x
        )
        upright = {"domain": _inside(top - tall, top), "anchor": at["xaxis"]} | ({"matches": "y"} if i else {})
        bare = {"showticklabels": False, "title": None} if i % wide else {}
        layout["yaxis" + at["yaxis"][1:]] = look_of_axis | upright | y | bare
        if count > 1:
            factor = text.split(" = ")[0]
            layout["annotations"].append(
                {
                    "text": text,
                    "x": left + width / 2,
                    "y": top,
                    "xref": "paper",
                    "yref": "paper",
                    "showarrow": False,
                    "xanchor": "center",
                    "yanchor": "bottom",
                    "font": {"size": 14, "color": look.text(factor) if factor in FACTOR_COLOURS else look.ink},
                }
            )
    return layout


def _inside(low: float, high: float) -> list[float]:
    """A domain in [0, 1], whatever rounding did."""
    return [max(0.0, round(low, 6)), min(1.0, round(high, 6))]


def axes(i: int) -> dict[str, str]:
    """The axes of panel ``i``, as a trace names them."""
    return {"xaxis": f"x{i + 1 if i else ''}", "yaxis": f"y{i + 1 if i else ''}"}


def drawn(layout: dict[str, Any], traces: list[dict]) -> Figure:
    """The figure of a layout and traces that are taken as they are: the tests check them, not every click."""
    import plotly.graph_objects as go

    return go.Figure(data=traces, layout=layout, _validate=False)


def _page(look: Look, *, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 12, "r": 12, "t": 44, "b": 12},
        "showlegend": False,
        "hovermode": "closest",
        "font": {"color": look.ink, "size": 12, "family": FONT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "uirevision": "kept",
        "hoverlabel": {"align": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": look.quiet, "activecolor": look.ink},
    }


def _heading(text: str) -> dict[str, Any]:
    return {"text": text, "x": 0, "xanchor": "left", "y": 0.99, "yanchor": "top", "font": {"size": 15}}


def dress(figure: Figure, look: Look, *, height: int) -> None:
    """Our fonts, margins, grid and transparent ground."""
    figure.update_layout(_page(look, height=height))
    figure.update_xaxes(gridcolor=look.quiet, linecolor=look.quiet, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=look.quiet, linecolor=look.quiet, zeroline=False, automargin=True)


def title(figure: Figure, text: str) -> None:
    """The finding or the question, top left."""
    figure.update_layout(title=_heading(text))


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
