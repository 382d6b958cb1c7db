"""The number of seeds that a difference needs, and the price of looking again after adding some.

Adding seeds until a difference is resolved, each time at the usual 5 %, ends in two to four times as many false
positives (simulated; ``tests/stats/test_power.py``). What holds 5 %: deciding beforehand how often to look and at how
many seeds, and holding each look to 5 % divided by their number (``looks`` of ``verdicts``); or, where the first look
chooses how many seeds follow, judging the fresh ones alone.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cdka.stats.intervals import LEVEL

POWER = 0.8
MAX_SEEDS = 1000
"""Beyond this many seeds the estimate gives up."""
RANGE = 0.8
"""The confidence of ``seeds_range``."""


def seeds_needed(difference: float, sd: float, level: float = LEVEL, power: float = POWER) -> int | None:
    """The number of paired seeds with which a t-test sees ``difference`` against ``sd`` of the differences.

    From the non-central t distribution, taking the observed effect for the true one: an estimate, no more; see
    ``seeds_range``. None where more than ``MAX_SEEDS`` would be needed.

    >>> seeds_needed(0.01, 0.012)
    14
    """
    if not np.isfinite(difference) or not np.isfinite(sd) or difference == 0:
        return None
    if sd == 0:
        return int(np.ceil(1 - np.log2(1 - level)))  # the sign-flip test: 2 / 2^n <= 1 - level

    def reaches(n: int) -> bool:
        effect = abs(difference) / sd * np.sqrt(n)
        return float(stats.nct.sf(stats.t.ppf(0.5 + level / 2, n - 1), n - 1, effect)) >= power

    low, high = 2, MAX_SEEDS
    if not reaches(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low


def seeds_range(
    difference: float, sd: float, n: int, level: float = LEVEL, power: float = POWER
) -> tuple[int | None, int | None]:
    """``seeds_needed`` at the two ends of an 80 % interval of the standardised effect that ``n`` seeds have shown.

    The interval is the normal approximation d +- 1.28 sqrt(1/n + d^2 / (2 (n - 1))) of the effect d in SDs. An end is
    None where more than ``MAX_SEEDS`` would be needed, which is the upper end wherever zero lies within the interval.

    >>> seeds_range(0.01, 0.012, n=5)
    (6, 366)
    """
    if n < 2 or not np.isfinite(difference) or not np.isfinite(sd) or sd <= 0:
        return None, None
    effect = abs(difference) / sd
    half = stats.norm.ppf(0.5 + RANGE / 2) * np.sqrt(1 / n + effect**2 / (2 * (n - 1)))
    fewest = seeds_needed(effect + half, 1.0, level, power)
    return fewest, seeds_needed(effect - half, 1.0, level, power) if effect > half else None
