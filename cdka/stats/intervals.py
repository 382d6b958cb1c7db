"""Means, intervals and p-values over seeds, vectorised over arms. NumPy and SciPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 1000
"""Beyond this many seeds a difference is not worth resolving: the power estimate gives up and says so."""


@dataclass(frozen=True)
class Interval:
    """``n`` values with their mean, sample SD and confidence interval of the mean; SD and ends are NaN below 2."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


def band(values: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, ...]:
    """(n, mean, sd, low, high) along the last axis of ``values``, ignoring NaN; the interval is Student's t.

    n is integer; mean is NaN where there is no value, SD and the ends where there are fewer than two.
    """
    values = np.asarray(values, dtype=np.float64)
    present = np.isfinite(values)
    n = present.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, values, 0.0).sum(axis=-1) / np.where(n > 0, n, np.nan)
        deviation = np.where(present, values - mean[..., None], 0.0)
        freedom = np.where(n > 1, n - 1, np.nan)
        sd = np.sqrt((deviation**2).sum(axis=-1) / freedom)
        half = special.stdtrit(freedom, 0.5 + level / 2) * sd / np.sqrt(n)
    return n, mean, sd, mean - half, mean + half


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean of ``values`` with its Student t interval; NaN values do not count."""
    n, mean, sd, low, high = band(np.asarray(values, dtype=np.float64), level)
    return Interval(int(n), float(mean), float(sd), float(low), float(high))


def t_test(values: np.ndarray) -> np.ndarray:
    """Two-sided p that the mean along the last axis is zero, ignoring NaN; NaN below two values.

    Where all values agree to rounding the t statistic has no scale: then the exact sign-flip p, 2 / 2^n, stands
    (and 1 where they are all zero), so that coarse metrics cannot fake certainty with two seeds.
    """
    values = np.asarray(values, dtype=np.float64)
    n, mean, sd, _, _ = band(values)
    magnitude = np.nanmax(np.abs(np.where(np.isfinite(values), values, 0.0)), axis=-1, initial=0.0)
    flat = (n > 1) & ~(sd > 1e-9 * np.maximum(magnitude, 1e-12))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean / (sd / np.sqrt(n))
        p = 2 * special.stdtr(np.where(n > 1, n - 1, np.nan), -np.abs(t))
    by_sign = np.where(magnitude < 1e-12, 1.0, 2.0 / 2.0 ** np.minimum(n, 60))
    return np.where(flat, by_sign, np.where(n > 1, p, np.nan))


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values (step-down, family-wise); NaN stays NaN and does not count in the family."""
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted


def seeds_needed(difference: float, sd: float, level: float = LEVEL, power: float = POWER) -> int | None:
    """Number of paired seeds that a t-test needs to detect ``difference`` at ``sd`` of the differences with ``power``.

    From the non-central t distribution, taking the observed effect for the true one: an estimate, no more.
    None where more than ``MOST_SEEDS`` would be needed.
    """
    if not np.isfinite(difference) or not np.isfinite(sd) or difference == 0:
        return None
    if sd == 0:
        return int(np.ceil(1 - np.log2(1 - level)))  # the sign-flip test: 2 / 2^n <= 1 - level

    def reaches(n: int) -> bool:
        effect = abs(difference) / sd * np.sqrt(n)
        return float(stats.nct.sf(stats.t.ppf(0.5 + level / 2, n - 1), n - 1, effect)) >= power

    low, high = 2, MOST_SEEDS
    if not reaches(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low
