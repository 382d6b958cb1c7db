"""A matrix of two by two as what it does to a circle: the ellipse, its half axes, and the way there."""

from __future__ import annotations

import numpy as np

RADIUS, SIZE = 34.0, 320.0
"""Pixels per unit, and the side of the drawing."""


def ellipse_svg(B: np.ndarray) -> str:
    """The unit circle (dashed) and its image under ``B`` of shape (2, 2), with both half axes and their lengths.

    The circle moves into the ellipse unless the reader prefers reduced motion (see ``learn.css``).
    """
    U, lengths, V = np.linalg.svd(B)
    del V
    reach = max(4.2, float(lengths[0]) * 1.4)
    scale = SIZE / (2 * reach)
    (a, b), (c, d) = B
    # y points down on the screen, so B becomes F B F with F = diag(1, -1)
    image = f"matrix({a:.4f},{-c:.4f},{-b:.4f},{d:.4f},0,0)"
    axes = "".join(_axis(U[:, i], float(lengths[i]), scale, i) for i in (0, 1))
    return (
        f'<svg viewBox="{-SIZE / 2} {-SIZE / 2} {SIZE} {SIZE}" class="learn-ellipse" role="img" '
        f'aria-label="B turns the unit circle into an ellipse with half axes {lengths[0]:.2f} and {lengths[1]:.2f}">'
        f'<path d="M{-SIZE / 2} 0H{SIZE / 2}M0 {-SIZE / 2}V{SIZE / 2}" class="hair"/>'
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
