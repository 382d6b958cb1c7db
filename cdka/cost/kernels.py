"""The cheapest way to compute an adapted layer: measured rules on sizes alone. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def form_of(n: int, r1: Any, r2: Any, r: Any, in_features: int, device_type: str) -> Any:
    """The cheapest form of one layer's product for n tokens, a name of ``adapter.forms.FORMS``; of arrays, an array.

    The thresholds were measured on a CPU with one thread, fp32, layers of 128 to 4096 features. On other devices a
    kernel launch and a pass over memory cost more than arithmetic, so the expanded form is kept for longer; that
    side is an estimate.
    """
    if hasattr(r1, "__len__"):
        import numpy as np  # the commands that count nothing start without it

        transposed = (r1 >= 4) & (r2 * r * r1 >= max(128, in_features // 2))
        blocked = (n <= 4) | ((device_type == "cpu") & (r1 >= 16) & (r2 * r <= r1))
        return np.where(blocked, "blocked", np.where(transposed, "transposed", "expanded"))
    if n <= 4:
        return "blocked"
    if device_type == "cpu" and r1 >= 16 and r2 * r <= r1:
        return "blocked"
    if r1 >= 4 and r2 * r * r1 >= max(128, in_features // 2):
        return "transposed"
    return "expanded"


STACKED_WEIGHTS, STACKED_ROWS = 32_768, 64
"""Layers with more weights are never merged with their adapters while training, nor for fewer rows per adapter."""


def stacking_pays(
    n: int, slices: int, out_features: int, in_features: int, adapters: Sequence[tuple[int, int, int]], device_type: str
) -> bool:
    """True where a pack on one layer is faster as one matrix per slice of the batch (``adapter.stacked``), n rows each.

    ``adapters`` are the (r1, r2, r) of the slices that have one. Measured on a CPU, fp32, one and two threads, 64 to
    1,088 rows, layers of 64 to 256 features: from a rank of a quarter of the smaller side on, on the average of the
    slices. At 256 x 256 it gains little with many rows and loses with few.
    """
    if device_type != "cpu" or n < STACKED_ROWS or out_features * in_features > STACKED_WEIGHTS:
        return False
    return 4 * sum(r * r1 * r2 for r1, r2, r in adapters) >= slices * min(out_features, in_features)
