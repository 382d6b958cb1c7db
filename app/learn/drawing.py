"""Small drawings of the course: tiles in SVG, an ellipse, labelled bars, and a frame to be filled."""

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


ELLIPSE_SIDE = 320.0
"""Pixels."""


def ellipse_svg(B: np.ndarray) -> str:
    """The unit circle (dashed) and its image under ``B`` of shape (2, 2), with both half axes and their lengths.

    The circle moves into the ellipse unless the reader prefers reduced motion (see ``learn.css``).
    """
    U, lengths, _ = np.linalg.svd(B)
    half = ELLIPSE_SIDE / 2
    scale = half / max(4.2, float(lengths[0]) * 1.4)
    (a, b), (c, d) = B
    # y points down on the screen, so B becomes F B F with F = diag(1, -1)
    image = f"matrix({a:.4f},{-c:.4f},{-b:.4f},{d:.4f},0,0)"
    axes = "".join(_axis(U[:, i], float(lengths[i]), scale, i) for i in (0, 1))
    return (
        f'<svg viewBox="{-half} {-half} {ELLIPSE_SIDE} {ELLIPSE_SIDE}" class="learn-ellipse" role="img" '
        f'aria-label="B turns the unit circle into an ellipse with half axes {lengths[0]:.2f} and {lengths[1]:.2f}">'
        f'<path d="M{-half} 0H{half}M0 {-half}V{half}" class="hair"/>'
        f'<circle r="{scale:.2f}" class="before"/>'
        f'<circle r="{scale:.2f}" class="after" style="--to:{image};transform:{image}"/>{axes}'
        f'<text x="{scale * 0.72:.1f}" y="{scale * 0.72 + 14:.1f}" class="quiet">circle</text></svg>'
    )


def _axis(direction: np.ndarray, length: float, scale: float, index: int) -> str:
    x, y = direction[0] * length * scale, -direction[1] * length * scale
    side = 1 if x >= 0 else -1
    label = f"{'first' if index == 0 else 'second'}: {length:.2f}"
    return (
        f'<path d="M0 0L{x:.1f} {y:.1f}" class="axis"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="end"/>'
        f'<text x="{x + 8 * side:.1f}" y="{y + (-8 if y <= 0 else 16):.1f}" '
        f'text-anchor="{"start" if side > 0 else "end"}">{label}</text>'
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
