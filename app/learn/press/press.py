"""The folding press: a real gradient whose tiles fly into R(G), a direction to turn, a step that folds back.

The numbers are from ``directions``; the script moves tiles and multiplies by a vector, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from app import theme
from app.learn.gradient import SIDE, real_gradient
from cdka.components import Components
from cdka.theory import best_capture, measured_alignment, predicted_alignment, rearrange

NUM_DARTS = 50


@dataclass(frozen=True)
class Directions:
    """For one (r1, r2, r) on the real gradient G, with N = r1 in / r2 the width of R(G).

    ``random`` and ``best`` are (k, N) with orthonormal rows, k = min(r, N): random directions outside the span of the
    best ones as far as there is room, and the leading right singular vectors of R(G). Turning from one to the other by
    an angle t gives orthonormal directions cos t random + sin t best, whose step has the cosine
    sqrt(cos^2 t caught_random^2 + sin^2 t caught_best^2). ``darts`` are the cosines of 50 random starts.
    """

    random: np.ndarray
    best: np.ndarray
    caught_random: float
    caught_best: float
    predicted: float
    darts: np.ndarray

    @property
    def start_angle(self) -> float:
        """The angle in degrees at which the cosine is the median of the darts."""
        low, high, aim = self.caught_random**2, self.caught_best**2, float(np.median(self.darts)) ** 2
        share = (aim - low) / (high - low) if high > low else 0.0
        return float(np.degrees(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0)))))


@lru_cache(maxsize=256)
def directions(c: Components) -> Directions:
    """The directions for one configuration; the random ones come from seed 0."""
    G = real_gradient().values
    R = rearrange(G, c.r1, c.r2)
    width = R.shape[1]
    count = min(c.r, width)
    V = np.linalg.svd(R, full_matrices=True)[2]
    best = V[:count]
    room = min(count, width - count)
    drawn = np.random.default_rng(0).standard_normal((room, width - count)) @ V[count:]
    free = np.linalg.qr(drawn.T)[0].T if room else np.zeros((0, width))
    random = np.concatenate([free, best[room:]])
    return Directions(
        random=random,
        best=best,
        caught_random=float(np.linalg.norm(R @ random.T)),
        caught_best=best_capture(G, c),
        predicted=predicted_alignment(c, SIDE),
        darts=measured_alignment(G, c, rng=0, inits=NUM_DARTS, step="projection"),
    )


Mode = Literal["fold", "pattern", "press"]
"""``fold``: one Kronecker product, unfolded and folded. ``pattern``: the gradient and the closest sum of r products.
``press``: everything, with the direction to turn."""

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "cdka_folding_press",
    html='<div class="press"></div>',
    css=(_HERE / "press.css").read_text(encoding="utf-8"),
    js=(_HERE / "press.js").read_text(encoding="utf-8"),
)


def data(c: Components, mode: Mode) -> dict[str, Any]:
    """All that the script needs for one configuration."""
    found = directions(c)
    return {
        "mode": mode,
        "r1": c.r1,
        "r2": c.r2,
        "r": c.r,
        "gradient": real_gradient().values.round(4).tolist(),
        "random": found.random.round(4).tolist(),
        "best": found.best.round(4).tolist(),
        "predicted": round(found.predicted, 4),
        "caught": round(found.caught_best, 4),
        "darts": found.darts.round(4).tolist(),
        "angle": round(found.start_angle, 1),
        "colours": list(theme.DIVERGING),
    }


def show(c: Components, mode: Mode, key: str) -> None:
    """Draw the press for one configuration. Raises CdkaError where it does not fit 16 x 16."""
    c.check(16, 16)
    _component(data=data(c, mode), key=key)
