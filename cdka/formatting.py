"""Numbers and counts in words, for tables and sentences."""

from __future__ import annotations

import math


def plural(n: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{int(n)} {noun}" if n == 1 else f"{int(n)} {noun}s"


def count_words(value: float) -> str:
    """A count in short: ``4,864``, ``48.6 k``, ``1.2 M``, ``180 M``."""
    if value is None or math.isnan(value):
        return "unknown"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scale = 1e3 if unit == "k" else size
            return f"{value / scale:.3g} {unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def signed(value: float) -> str:
    """A difference with its sign and three significant digits: ``+0.0213``."""
    return f"{value:+.3g}"


def p_value(p: float) -> str:
    """``p = 0.03``, or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def estimate(mean: float, low: float, high: float, n: int) -> str:
    """``0.912 ± 0.006 (5 seeds)``, no more digits than the interval supports; one seed says so."""
    if n == 0 or math.isnan(mean):
        return "no value yet"
    half = (high - low) / 2
    if n == 1 or math.isnan(half):
        return f"{mean:#.3g}".rstrip(".") + f" ({plural(n, 'seed')})"
    if half <= 0:
        return f"{mean:.3f} ± 0 ({n} seeds)"
    exponent = math.floor(math.log10(half))
    places = max(0, -exponent + (half / 10**exponent < 1.95))  # a leading 1 keeps a second digit
    return f"{mean:.{places}f} ± {half:.{places}f} ({n} seeds)"
