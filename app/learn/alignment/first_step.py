"""The first step from B = 0 as a drawing: R(G) times a_i gives b_i, column times row, folded back over G."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app import widgets
from app.learn import drawing
from app.learn.gradient import SIDE, real_gradient
from cdka.theory import rearrange, unrearrange

MAX_ADDED = 4


@dataclass(frozen=True)
class FirstStep:
    """The parts of one first step, up to sign and size: ``R`` is R(G); ``A`` (k, N) holds the directions, ``B`` (k, M)
    the columns b_i that they give; ``change`` (M, N) is the sum of b_i a_i^T; ``cosine`` compares it with full
    fine-tuning's step of the same kind."""

    R: np.ndarray
    A: np.ndarray
    B: np.ndarray
    change: np.ndarray
    cosine: float


def first_step(G: np.ndarray, r1: int, r2: int, count: int, step: str, seed: int = 0) -> FirstStep:
    """The first step of ``count`` components with random A_i, as ``cdka.theory.measured_alignment`` takes it.

    ``step`` is one of ``cdka.theory.alignment.STEPS``; for ``projection``, the b_i are those of the best step in
    the span.
    """
    R = rearrange(np.asarray(G, dtype=np.float64), r1, r2)
    A = np.random.default_rng(seed).uniform(-1.0, 1.0, size=(count, R.shape[1]))
    B = R @ A.T
    target = R
    if step == "adam":
        B, target = np.sign(B), np.sign(R)
    elif step == "projection":
        B = R @ np.linalg.pinv(A)
    change = B @ A
    cosine = float(np.sum(change * target) / (np.linalg.norm(change) * np.linalg.norm(target)))
    return FirstStep(R, A, B.T, change, cosine)


def draw(r1: int, r2: int, count: int, step: str) -> None:
    """The drawing and its cosine, on the real gradient."""
    found = first_step(real_gradient().values, r1, r2, count, step)
    widgets.html_block(svg(found, r1, r2))
    added = " and ".join(filter(None, [", ".join(f"a{'₁₂₃₄'[i]}" for i in range(count - 1)), f"a{'₁₂₃₄'[count - 1]}"]))
    widgets.html_block(
        f"With {added}: the cosine with full fine-tuning's first step is <b>{found.cosine:.3f}</b>. "
        '<span class="cdka-quiet">The random directions are those of seed 0. Blue is negative, red positive.</span>'
    )
    widgets.caption(real_gradient().caption)


def svg(found: FirstStep, r1: int, r2: int) -> str:
    """R(G), the columns a_i, the columns b_i, their sum of products, and the same folded back."""
    rows, columns = found.R.shape
    count = len(found.A)
    tile = min(11.0, 300.0 / rows, 130.0 / columns)
    cell = max(tile, 5.0)
    top, x = 30.0, 6.0
    height = rows * tile
    side = min(190.0, max(120.0, height))
    parts_ = [drawing.text(x, 16, f"R(G), {rows} × {columns}")]
    parts_ += [drawing.tiles(found.R, x, top, tile, _most(found.R)), drawing.frame(x, top, columns * tile, height)]
    x += max(columns * tile, 84) + 10
    parts_.append(drawing.text(x, top + height / 2, "·", "big"))
    x += 18
    parts_.append(drawing.text(x, 16, "a", "r1"))
    for a in found.A:
        parts_ += [
            drawing.tiles(a[:, None], x, top, cell, _most(found.A), tile),
            drawing.frame(x, top, cell, columns * tile),
        ]
        x += cell + 5
    parts_.append(drawing.text(x + 2, top + height / 2, "=", "big"))
    x += 26
    parts_.append(drawing.text(x, 16, "b", "r2"))
    for b in found.B:
        parts_ += [drawing.tiles(b[:, None], x, top, cell, _most(found.B), tile), drawing.frame(x, top, cell, height)]
        x += cell + 5
    x += 16
    parts_.append(drawing.text(x, 16, "sum of b aᵀ"))
    parts_ += [
        drawing.tiles(found.change, x, top, tile, _most(found.change)),
        drawing.frame(x, top, columns * tile, height),
    ]
    x += max(columns * tile, 74) + 12
    parts_.append(drawing.text(x, top + side / 2, "→", "big"))
    x += 30
    folded = unrearrange(found.change, SIDE, SIDE, r1, r2)
    parts_.append(drawing.text(x, 16, "folded back: the change of W"))
    parts_ += [drawing.tiles(folded, x, top, side / SIDE, _most(folded)), drawing.frame(x, top, side, side)]
    label = f"R of G, {rows} by {columns}, times {count} random columns; the products, summed and folded back"
    return drawing.svg(x + max(side, 190) + 8, top + max(height, side) + 12, label, *parts_)


def _most(matrix: np.ndarray) -> float:
    return float(np.abs(matrix).max()) or 1.0
