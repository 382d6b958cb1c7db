"""Small drawings of the course: matrices as tiles in SVG, labelled bars, and a frame for what is not there yet."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from app import widgets
from cdka import palette


def colour(value: float) -> str:
    """The colour of a value from -1 to 1 on the diverging scale; beyond it, that of its end."""
    stops = palette.DIVERGING
    place = (min(1.0, max(-1.0, value)) + 1) / 2 * (len(stops) - 1)
    low = min(len(stops) - 2, int(place))
    pairs = zip(palette.rgb(stops[low]), palette.rgb(stops[low + 1]), strict=True)
    return palette.hex_code([a + (b - a) * (place - low) for a, b in pairs])


def tiles(matrix: np.ndarray, x: float, y: float, size: float, most: float, height: float | None = None) -> str:
    """SVG rectangles for a matrix at a place; ``size`` and ``height`` (the same if None) are those of one tile."""
    height = size if height is None else height
    return "".join(
        f'<rect x="{x + j * size:.1f}" y="{y + i * height:.1f}" width="{size:.1f}" height="{height:.1f}" '
        f'fill="{colour(value / most)}"/>'
        for i, row in enumerate(matrix)
        for j, value in enumerate(row)
    )


def frame(x: float, y: float, width: float, height: float) -> str:
    """A thin frame."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="frame"/>'


def text(x: float, y: float, words: str, css: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}">{words}</text>'


def svg(width: float, height: float, label: str, *parts: str) -> str:
    """A drawing with its accessible name."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" class="learn-mosaic" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


Bar = tuple[str, float, str, str]
"""Label, value, text of the value, css class (``full`` is hatched, ``kron`` is not)."""


def bars_html(rows: Sequence[Bar]) -> str:
    """The bars; the longest fills the width, and none is too thin to see."""
    most = max(value for _, value, _, _ in rows)
    return (
        '<div class="learn-bars">'
        + "".join(
            f'<div class="learn-bar"><span>{label}</span><i class="{css}" '
            f'style="width:{max(100 * value / most, 0.15):.2f}%"></i><b>{text}</b></div>'
            for label, value, text, css in rows
        )
        + "</div>"
    )


def placeholder(text: str) -> None:
    """A dashed frame with one sentence: what will be here, and when."""
    widgets.html_block(f'<div class="learn-covered">{html.escape(text)}</div>')
