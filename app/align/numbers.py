"""The tables behind the Align room: theory alone before a measurement, measured layers after it."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from cdka.align import AlignRecord, AlignRequest
from cdka.models.targets import select
from cdka.solver.columns import columns_for


@lru_cache(maxsize=16)
def predicted(request: AlignRequest) -> pd.DataFrame:
    """What theory says before anything is measured: a row per (r1, r2, r), measured and best missing."""
    grid = [(a, b, c) for a in request.r1_values for b in request.r2_values for c in request.r_values]
    columns = columns_for(select(request.shapes(), request.target_modules), *zip(*grid, strict=True))
    return pd.DataFrame(
        {
            "r1": columns.r1, "r2": columns.r2, "r": columns.r, "num_params": columns.num_params,
            "predicted": columns.alignment, "measured": float("nan"), "measured_sd": float("nan"), "best": float("nan"),
        }
    )  # fmt: skip


def layer_rows(record: AlignRecord, path: str) -> pd.DataFrame:
    """The map of one layer, in the columns of the overall one."""
    rows = record.layers_frame()
    overall = record.overall_frame()[["r1", "r2", "r", "num_params"]]
    return rows[rows["path"] == path].merge(overall, on=["r1", "r2", "r"])
