"""Numbers and configurations as people read them: short, and no more digits than the interval supports. Torch-free.

A configuration is written ``cdka 2,8,4`` in text; a page draws it as a chip.
"""

from __future__ import annotations

import math
from datetime import datetime

MISSING = "–"
"""Stands where there is no value: never zero."""
METHOD_NAMES = {"cdka": "CDKA", "lora": "LoRA", "lokr": "LoKr", "dora": "DoRA", "full": "full fine-tuning"}
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def is_missing(value: float | None) -> bool:
    """True where there is no number: None, NaN, or pandas' NA."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas' NA is neither equal nor unequal to itself
        return True


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, trailing zeros dropped."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(n: float | None) -> str:
    """A count in short: ``812``, ``4,864``, ``48.6 k``, ``1.2 M``, ``6.74 B``; a dash where there is none."""
    if is_missing(n):
        return MISSING
    if abs(n) < 10_000:
        return f"{n:,.0f}"
    return _in_units(n, _UNITS)


def flops(n: float | None) -> str:
    """Arithmetic operations with a decimal prefix: ``1.48 GFLOP``."""
    if is_missing(n):
        return MISSING
    units = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"))
    return f"{n:.0f} FLOP" if abs(n) < 1000 else _in_units(n, units)


def _in_units(n: float, units: tuple[tuple[float, str], ...]) -> str:
    for position, (size, unit) in enumerate(units):
        if abs(n) >= size * 0.9995:
            if round(abs(n) / size, 2) >= 1000 and position:
                size, unit = units[position - 1]
            return f"{significant(n / size)} {unit}"
    return f"{n:,.0f}"


def percent(share: float | None) -> str:
    """A share as a percentage with two to three significant digits: ``0.41 %``, ``12.5 %``, ``100 %``."""
    if is_missing(share):
        return MISSING
    value = 100 * share
    return f"{significant(value, 3 if abs(value) >= 10 else 2)} %"


def size(num_bytes: float | None) -> str:
    """A size in decimal units: ``96 kB``, ``1.3 GB``."""
    if is_missing(num_bytes):
        return MISSING
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return f"{num_bytes:.0f} B" if abs(num_bytes) < 1000 else _in_units(num_bytes, units)


def duration(seconds: float | None) -> str:
    """A duration: ``8 s``, ``2 min 05 s``, ``1 h 20 min``; a dash where it is not known."""
    if is_missing(seconds) or math.isinf(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float | None) -> str:
    """Elapsed or remaining time as a clock: ``0:08``, ``2:05``, ``1:20:00``; a dash where it is not known."""
    if is_missing(seconds) or math.isinf(seconds):
        return MISSING
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def date(seconds: float) -> str:
    """A moment in Unix seconds, in local time: ``2026-11-28 11:40``."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def ratio(value: float | None, places: int = 3) -> str:
    """A score between 0 and 1: ``0.912``; a dash where there is none."""
    return MISSING if is_missing(value) else f"{value:.{places}f}"


def times(factor: float) -> str:
    """A factor in words: ``2.3 times``, ``12 times``."""
    return f"{factor:,.0f} times" if factor >= 10 else f"{significant(factor, 2)} times"


def signed(value: float) -> str:
    """A difference with its sign and three significant digits: ``+0.0213``."""
    return f"{value:+.3g}"


def p_value(p: float) -> str:
    """``p = 0.03``, or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def places(half_width: float) -> int:
    """Decimal places that an interval supports: one significant digit of its half, two where that starts with 1."""
    if not half_width > 0:
        return 3
    exponent = math.floor(math.log10(half_width))
    return max(0, -exponent + (half_width / 10**exponent < 1.95))


PLUS_MINUS = "± half of the 95 % interval"
"""The words for the ± of every table, map and list of results."""


def estimate(mean: float | None, low: float | None, high: float | None, seeds: int) -> str:
    """``0.912 ± 0.006 (5 seeds)``: the mean and half of its 95 % interval, no more digits than the interval supports;
    ``0.98, 0.91 to 1.00 (3 seeds)`` where the interval is cut off at a bound.

    One seed has no interval and says so; seeds that agree to the last digit have none either.
    """
    if seeds == 0 or is_missing(mean):
        return "no value yet"
    if seeds == 1:
        return f"{mean:#.3g}".rstrip(".") + " (1 seed)"
    if is_missing(low) or is_missing(high):
        return f"{mean:#.3g}".rstrip(".") + f" ({seeds} seeds, no interval)"
    half = (high - low) / 2
    if half <= 0:
        return f"{mean:.3f} ± 0 ({seeds} seeds)"
    digits = places(half)
    if not math.isclose(mean - low, high - mean, rel_tol=1e-4, abs_tol=1e-9):
        return f"{mean:.{digits}f}, {low:.{digits}f} to {high:.{digits}f} ({seeds} seeds)"
    return f"{mean:.{digits}f} ± {half:.{digits}f} ({seeds} seeds)"


def interval(low: float, high: float, digits: int | None = None) -> str:
    """``+0.010 to +0.045``: an interval of a difference; an end that is not zero is never written as zero."""
    digits = places((high - low) / 2) if digits is None else digits
    while digits < 6 and any(v and not float(f"{v:.{digits}f}") for v in (low, high)):
        digits += 1
    return " to ".join(f"{round(value, digits) + 0.0:+.{digits}f}" for value in (low, high))  # no minus before a zero


def plural(n: int, one: str, many: str | None = None) -> str:
    """``1 run``, ``3 runs``, ``1,200 runs``."""
    return f"{int(n):,} {one if n == 1 else many or one + 's'}"
