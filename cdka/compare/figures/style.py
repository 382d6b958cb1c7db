"""Style of Compare's figures: the colour of an arm, panels that zoom together, labels at the ends of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cdka.formatting import is_missing
from cdka.palette import FACTORS, Theme, configuration_colour

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

METHOD_SYMBOLS = {"cdka": "circle", "lora": "square", "lokr": "diamond", "dora": "cross", "full": "x"}
METHOD_DASHES = {"cdka": "solid", "lora": "dash", "lokr": "dashdot", "dora": "longdash", "full": "dot"}
BETWEEN_ROWS = 84
"""Pixels between two rows of panels: an axis with its title, and the name of the panel below."""
FONT = "'Source Sans', 'Source Sans Pro', 'Segoe UI', sans-serif"


def arm_colour(row: Mapping[str, Any], theme: Theme) -> str:
    """The colour of an arm: its configuration's own, wherever it is drawn; full fine-tuning in ink.

    ``row`` has method, r1, r2, r, rank and arm_label; what stands in the label behind the configuration is its variant.
    """
    if row["method"] == "full":
        return theme.ink
    r1, r2, r = (int(row[factor]) if row["method"] == "cdka" else 0 for factor in FACTORS)
    components = (r1, r2, r) if row["method"] == "cdka" else None
    rank = None if is_missing(row.get("rank")) else int(row["rank"])
    return configuration_colour(row["method"], components, rank, row["arm_label"].partition(" · ")[2])


def panels(
    titles: Sequence[str],
    *,
    theme: Theme,
    columns: int,
    height: int,
    heading: str,
    x: dict[str, Any],
    y: dict[str, Any],
) -> dict[str, Any]:
    """The layout of small multiples that zoom together, one panel per title, at most ``columns`` in a row.

    ``x`` and ``y`` are settings of every axis; the title of y stands at the left panels only. Plain data: Plotly
    takes a tenth of a second to check as much, at every click.
    """
    count = max(1, len(titles))
    wide = min(columns, count)
    rows = -(-count // wide)
    tall_px = height if rows == 1 else 300 * rows + 60
    across, down = 0.035, 0.0 if rows == 1 else BETWEEN_ROWS / (tall_px - 90)
    width, tall = (1 - across * (wide - 1)) / wide, (1 - down * (rows - 1)) / rows
    look_of_axis = {
        "gridcolor": theme.grid,
        "linecolor": theme.grid,
        "zeroline": False,
        "automargin": True,
    }
    layout = _page(theme, height=tall_px) | {"annotations": []}
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
                    "font": {
                        "size": 14,
                        "color": theme.text(factor) if factor in FACTORS else theme.ink,
                    },
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


def _page(theme: Theme, *, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 12, "r": 12, "t": 44, "b": 12},
        "showlegend": False,
        "hovermode": "closest",
        "font": {"color": theme.ink, "size": 12, "family": FONT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "uirevision": "kept",
        "hoverlabel": {"align": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.grid, "activecolor": theme.ink},
    }


def _heading(text: str) -> dict[str, Any]:
    return {"text": text, "x": 0, "xanchor": "left", "y": 0.99, "yanchor": "top", "font": {"size": 15}}


def dress(figure: Figure, theme: Theme, *, height: int) -> None:
    """Our fonts, margins, grid and transparent ground."""
    figure.update_layout(_page(theme, height=height))
    figure.update_xaxes(gridcolor=theme.grid, linecolor=theme.grid, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=theme.grid, linecolor=theme.grid, zeroline=False, automargin=True)


def title(figure: Figure, text: str) -> None:
    """The finding or the question, top left."""
    figure.update_layout(title=_heading(text))


def spread_labels(heights: Mapping[str, float], low: float, high: float, gap: float = 0.055) -> dict[str, float]:
    """Heights of labels beside their lines so that none cover each other: at least ``gap`` of the range apart."""
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


def thin(length: int, most: int = 300) -> list[int]:
    """Indices of the points to draw of ``length``: at most ``most``, even, the first and the last always among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})
