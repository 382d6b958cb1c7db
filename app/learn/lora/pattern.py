"""CDKA as a LoRA with a pattern: U = [B_i (x) I] and V = [I (x) A_i], and the same drawn with equal entries alike."""

from __future__ import annotations

import numpy as np

from app import theme
from app.learn import mosaic
from cdka.components import Components

OUT, IN = 16, 16
MAX_RANK = 32
"""The layer that is drawn, and the widest U that is drawn to scale."""


def factors(c: Components) -> tuple[np.ndarray, np.ndarray]:
    """U (out, R) and V (R, in) as numbers of entries: k > 0 is the k-th number of B or A, 0 is a zero. R = r r1 r2.

    U V with the numbers in place of their positions is sum_i B_i (x) A_i, by the mixed-product rule.
    """
    (_, _, wide), (_, tall, _) = c.shapes(OUT, IN)
    b = np.arange(1, c.r * tall * c.r2 + 1).reshape(c.r, tall, c.r2)
    a = np.arange(1, c.r * c.r1 * wide + 1).reshape(c.r, c.r1, wide)
    U = np.hstack([np.kron(one, np.eye(c.r1, dtype=int)) for one in b])
    V = np.vstack([np.kron(np.eye(c.r2, dtype=int), one) for one in a])
    return U, V


def free_numbers(c: Components) -> int:
    """The numbers of a LoRA of rank r r1 r2 on the layer that is drawn."""
    return c.r * c.r1 * c.r2 * (OUT + IN)


def pattern_svg(c: Components, *, free: bool) -> str:
    """U beside V, to scale: with the pattern, or with every entry a number of its own."""
    U, V = factors(c)
    rank = U.shape[1]
    if free:
        U, V = np.arange(1, U.size + 1).reshape(U.shape), np.arange(1, V.size + 1).reshape(V.shape)
    tile = min(17.0, 520.0 / (rank + IN), 300.0 / max(OUT, rank))
    left, top = 8.0, 26.0
    v_x = left + rank * tile + 30
    what = f"{U.size + V.size} free numbers" if free else f"{c.num_params(OUT, IN)} numbers, repeated"
    return mosaic.svg(
        v_x + IN * tile + 10,
        top + max(OUT, rank) * tile + 30,
        f"U of {OUT} by {rank} times V of {rank} by {IN}: {what}",
        mosaic.text(left, 16, f"U, {OUT} × {rank}"),
        _cells(U, left, top, tile, theme.R2),
        mosaic.text(left + rank * tile + 10, top + OUT * tile / 2, "·", "big"),
        mosaic.text(v_x, 16, f"V, {rank} × {IN}"),
        _cells(V, v_x, top, tile, theme.R1),
    )


def _cells(entries: np.ndarray, x: float, y: float, tile: float, ink: str) -> str:
    """Every entry as a tile whose strength names the number; zeros stay empty."""
    most = int(entries.max())
    shades = np.random.default_rng(1).permutation(most)  # neighbours in number look different
    parts = [mosaic.frame(x, y, entries.shape[1] * tile, entries.shape[0] * tile)]
    for i, row in enumerate(entries):
        for j, entry in enumerate(row):
            if entry:
                strength = 0.18 + 0.82 * shades[entry - 1] / max(1, most - 1)
                parts.append(
                    f'<rect x="{x + j * tile:.1f}" y="{y + i * tile:.1f}" width="{tile - 0.6:.1f}" '
                    f'height="{tile - 0.6:.1f}" fill="{ink}" fill-opacity="{strength:.2f}"/>'
                )
    return "".join(parts)
