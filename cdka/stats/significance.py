"""p-values over seeds, and Holm's adjustment for a family of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from cdka.stats.intervals import band, is_flat


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


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values (step-down); NaN stays NaN and does not count in the family.

    Calling every test with an adjusted p below 0.05 resolved keeps the chance of any false one at 5 % or less.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    array([0.03, 0.06, 0.06, 0.02])
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted
