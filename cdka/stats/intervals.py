"""The mean of some scores with its Student t interval and p, vectorised over arms; Holm's adjustment for a family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from cdka.errors import CdkaError

LEVEL = 0.95
SHARE = (0.0, 1.0)
"""The bounds of an accuracy."""
UNBOUNDED = (-np.inf, np.inf)
FLAT = 1e-9
"""Values whose SD is below this share of the largest of them agree to rounding: they show no spread to judge by."""


@dataclass(frozen=True)
class Interval:
    """``n`` scores with their mean, sample SD and the confidence interval of the mean.

    SD is NaN below two scores. The ends are NaN there too, and where all scores agree to the last digit: equal scores
    show no spread, which is not the same as having none.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.low):
            return f"{self.mean:.3f} (no interval, n = {self.n})"
        return f"{self.mean:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}, n = {self.n})"


def is_flat(n: np.ndarray, sd: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """True where two or more values agree to rounding, from their count, SD and largest absolute value."""
    return (n > 1) & ~(sd > FLAT * np.maximum(magnitude, 1e-12))


def band(
    values: np.ndarray, level: float = LEVEL, bounds: tuple[float, float] = UNBOUNDED
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(n, mean, sd, low, high) along the last axis of ``values``, ignoring NaN; the interval is Student's t.

    n is integer; mean is NaN where there is no value, SD where there are fewer than two, the ends there and where all
    values agree to rounding. The ends are cut off at ``bounds``, which loses no coverage: the mean lies within them.
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
    magnitude = np.abs(np.where(present, values, 0.0)).max(axis=-1, initial=0.0)
    half = np.where(is_flat(n, sd, magnitude), np.nan, half)
    return n, mean, sd, np.clip(mean - half, *bounds), np.clip(mean + half, *bounds)


def interval(
    scores: Sequence[float] | np.ndarray | pd.Series | pd.DataFrame,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Interval | pd.DataFrame:
    """The mean of ``scores``, one per seed (or per base model), with its Student t interval; NaN scores do not count.

    A DataFrame, one row per arm and one column per seed, gives a frame with n, mean, sd, low and high per arm.
    ``bounds=(0, 1)`` keeps the interval of an accuracy among accuracies. Raises CdkaError for an array of more than one
    dimension: the scores of several arms go into a DataFrame, those of single examples into ``crossed``.

    >>> round(interval([0.91, 0.88, 0.93]).mean, 3)
    0.907
    >>> print(interval([0.99, 0.95, 1.0], bounds=(0, 1)))
    0.980 (95 % interval 0.914 to 1.000, n = 3)
    >>> print(interval([0.968, 0.968, 0.968]))
    0.968 (no interval, n = 3)
    >>> interval(pd.DataFrame({0: [0.9, 0.8], 1: [0.92, 0.86]}, index=["cdka", "lora"])).round(2)
          n  mean    sd   low  high
    cdka  2  0.91  0.01  0.78  1.04
    lora  2  0.83  0.04  0.45  1.21
    """
    if isinstance(scores, pd.DataFrame):
        columns = dict(zip(("n", "mean", "sd", "low", "high"), band(scores.to_numpy(), level, bounds), strict=True))
        return pd.DataFrame(columns, index=scores.index)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise CdkaError(
            f"interval takes one score per seed: got an array of shape {values.shape}. Give several arms as a "
            "DataFrame, and single examples to cdka.stats.intervals."
        )
    n, mean, sd, low, high = band(values, level, bounds)
    return Interval(int(n), float(mean), float(sd), float(low), float(high))


def t_test(values: ArrayLike) -> np.ndarray:
    """Two-sided p that the mean along the last axis is zero, ignoring NaN; NaN below two values.

    Where all values agree to rounding the t statistic has no scale: then the exact sign-flip p, 2 / 2^n, stands
    (and 1 where they are all zero), so that coarse metrics cannot fake certainty with few seeds.

    >>> round(float(t_test([0.02, 0.03, 0.01])), 3)
    0.074
    >>> float(t_test([0.01, 0.01, 0.01]))
    0.25
    """
    scores = np.asarray(values, dtype=np.float64)
    n, mean, sd, _, _ = band(scores)
    magnitude = np.abs(np.where(np.isfinite(scores), scores, 0.0)).max(axis=-1, initial=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean / (sd / np.sqrt(n))
        p = 2 * special.stdtr(np.where(n > 1, n - 1, np.nan), -np.abs(t))
    by_sign = np.where(magnitude < 1e-12, 1.0, 2.0 / 2.0 ** np.minimum(n, 60))
    return np.where(is_flat(n, sd, magnitude), by_sign, np.where(n > 1, p, np.nan))


def crossed(
    correct: ArrayLike,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Interval:
    """The mean of ``correct`` (units, examples) with its interval over new units *and* new examples.

    A row holds what one seed (or one base model, averaged over its seeds) scored on each test example: 1 right, 0
    wrong. Give the difference of two arms' rows for a paired comparison.

    The variance of the mean is (MS_units + MS_examples - MS_residual) / (units examples), the unbiased estimate in a
    two-way random-effects layout. A crossed bootstrap, which draws rows and columns anew, estimates the same with a
    bias: with three units it is a fifth too narrow. The quantile is Cochran and Cox's: those of t with units - 1 and
    with examples - 1 degrees of freedom, weighted by the two parts of the variance. ``n`` counts units; ``sd`` is
    that of their means. Raises CdkaError unless there are at least two units and two examples, all finite.

    >>> rng = np.random.default_rng(0)
    >>> easy = rng.random(597) < 0.9
    >>> right = (rng.random((5, 597)) < np.where(easy, 0.98, 0.5)).astype(float)
    >>> print(crossed(right))
    0.932 (95 % interval 0.916 to 0.948, n = 5)
    """
    values = np.asarray(correct, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise CdkaError(
            "crossed takes finite scores by unit and example, at least two of each: got an array of shape "
            f"{values.shape}. Give one row per seed and one column per test example."
        )
    units, examples = values.shape
    mean = values.mean()
    by_unit, by_example = values.mean(axis=1), values.mean(axis=0)
    freedom = np.array([units - 1, examples - 1, (units - 1) * (examples - 1)])
    residual = values - by_unit[:, None] - by_example + mean
    squares = np.array(
        [
            examples * np.sum((by_unit - mean) ** 2) / freedom[0],
            units * np.sum((by_example - mean) ** 2) / freedom[1],
            np.sum(residual**2) / freedom[2],
        ]
    )
    parts = np.array([squares[0], max(squares[1] - squares[2], 0.0)])
    sd = float(by_unit.std(ddof=1))
    if parts.sum() <= 0:  # the units agree, and the examples vary no more than chance
        return Interval(units, float(mean), sd, np.nan, np.nan)
    quantile = special.stdtrit(freedom[:2], 0.5 + level / 2) @ parts / parts.sum()
    half = quantile * np.sqrt(parts.sum() / values.size)
    return Interval(units, float(mean), sd, float(np.clip(mean - half, *bounds)), float(np.clip(mean + half, *bounds)))
