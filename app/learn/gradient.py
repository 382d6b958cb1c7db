"""The real gradient that the course folds: a part of one layer of an embedded model, small enough to see (16 x 16)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cdka.paths import assets_dir

SIDE = 16


@dataclass(frozen=True)
class RealGradient:
    """A part (16, 16) of a layer's gradient, of Frobenius norm 1, and where it comes from."""

    values: np.ndarray
    model: str
    task: str
    layer: str
    shape: tuple[int, int]
    share: float

    @property
    def caption(self) -> str:
        """One sentence on its origin."""
        out, in_ = self.shape
        return (
            f"Part of a real gradient: {self.layer} of {self.model} ({out} × {in_}) on one batch of {self.task}, the "
            f"{SIDE} rows and {SIDE} columns with the most energy ({100 * self.share:.0f} % of it)."
        )


@lru_cache(maxsize=1)
def real_gradient() -> RealGradient:
    """The gradient in ``assets/learn/gradient.json``, which ``tools/build_learn_gradient.py`` measured."""
    document = json.loads((assets_dir() / "learn" / "gradient.json").read_text(encoding="utf-8"))
    return RealGradient(
        values=np.array(document["values"]),
        model=document["model"],
        task=document["task"],
        layer=document["layer"],
        shape=tuple(document["shape"]),
        share=document["share"],
    )
