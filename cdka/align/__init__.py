"""The alignment lab: predicted against measured alignment on real gradients. Torch only in ``gradients.compute``."""

from __future__ import annotations

from cdka.align.lab import Status, align, cancel, load, start, status
from cdka.align.record import LAYER_COLUMNS, OVERALL_COLUMNS, SPECTRUM_COLUMNS, AlignRecord
from cdka.align.request import AlignRequest
from cdka.align.verdict import PREDICTORS, Verdict, does_it_predict

__all__ = [
    "LAYER_COLUMNS",
    "OVERALL_COLUMNS",
    "PREDICTORS",
    "SPECTRUM_COLUMNS",
    "AlignRecord",
    "AlignRequest",
    "Status",
    "Verdict",
    "align",
    "cancel",
    "does_it_predict",
    "load",
    "start",
    "status",
]
