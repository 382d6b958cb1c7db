"""Numbers as people read them: short in the text, exact on hover, no more digits than the interval supports."""

from __future__ import annotations

import math

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def _significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, trailing zeros dropped."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(n: float | None) -> str:
    """A count in short: ``812``, ``4,864``, ``48.6 k``, ``1.2 M``, ``6.74 B``; a dash where there is none."""
    if n is None or math.isnan(n):
        return "–"
    if abs(n) < 10_000:
        return f"{n:,.0f}"
    for position, (size, unit) in enumerate(_UNITS):
        if abs(n) >= size * 0.9995:
            if round(abs(n) / size, 2) >= 1000 and position:
                size, unit = _UNITS[position - 1]
            return f"{_significant(n / size)} {unit}"
    return f"{n:,.0f}"


def percent(share: float | None) -> str:
    """A share as a percentage with two to three significant digits: ``0.41 %``, ``12.5 %``, ``100 %``."""
    if share is None or math.isnan(share):
        return "–"
    value = 100 * share
    return f"{_significant(value, 3 if abs(value) >= 10 else 2)} %"


def size(num_bytes: float | None) -> str:
    """A size in decimal units: ``96 kB``, ``1.3 GB``."""
    if num_bytes is None or math.isnan(num_bytes):
        return "–"
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(num_bytes) >= limit:
            return f"{_significant(num_bytes / limit)} {unit}"
    return f"{num_bytes:.0f} B"


def duration(seconds: float | None) -> str:
    """A duration: ``8 s``, ``2 min 05 s``, ``1 h 20 min``; a dash where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float | None) -> str:
    """Elapsed or remaining time as a clock: ``0:08``, ``2:05``, ``1:20:00``; a dash where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def ratio(value: float | None, places: int = 3) -> str:
    """A score between 0 and 1: ``0.912``; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{places}f}"


def estimate(mean: float | None, half_width: float | None, seeds: int) -> str:
    """A mean with its interval: ``0.912 ± 0.006 (5 seeds)``; one seed has no interval and says so.

    The half-width keeps one significant digit (two where it starts with 1), and the mean as many places.
    """
    if mean is None or math.isnan(mean):
        return "–"
    if seeds < 2 or half_width is None or math.isnan(half_width):
        return f"{mean:.2f} (1 seed)" if seeds == 1 else f"{mean:.2f} ({seeds} seeds, no interval)"
    if half_width <= 0:
        return f"{mean:.3f} ± 0 ({seeds} seeds)"
    exponent = math.floor(math.log10(half_width))
    leading = half_width / 10**exponent
    places = max(0, -exponent + (1 if leading < 1.95 else 0))
    return f"{mean:.{places}f} ± {half_width:.{places}f} ({seeds} seeds)"


def plural(n: int, one: str, many: str | None = None) -> str:
    """``1 run``, ``3 runs``, ``1,200 runs``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
