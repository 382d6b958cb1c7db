"""The tables behind the Align room: theory alone before a measurement, measured layers after it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pandas as pd

from cdka.align import AlignRecord, AlignRequest
from cdka.components import Components
from cdka.models.targets import select
from cdka.solver.feasible import columns_for

LORA_LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_LAYERS = 26
"""More layers than this are told by kind, one row for all layers that share a path but for the index."""


@lru_cache(maxsize=16)
def predicted(request: AlignRequest) -> pd.DataFrame:
    """Theory's table before anything is measured: a row per (r1, r2, r), measured and best missing."""
    grid = [(a, b, c) for a in request.r1_values for b in request.r2_values for c in request.r_values]
    r1, r2, r = zip(*grid, strict=True)
    columns = columns_for(select(request.shapes(), request.target_modules), r1, r2, r)
    return pd.DataFrame(
        {
            "r1": columns.r1,
            "r2": columns.r2,
            "r": columns.r,
            "num_params": columns.num_params,
            "predicted": columns.alignment,
            "measured": float("nan"),
            "measured_sd": float("nan"),
            "best": float("nan"),
        }
    )


def layer_rows(record: AlignRecord, path: str) -> pd.DataFrame:
    """The map of one layer, in the columns of the overall one."""
    rows = record.layers_frame()
    overall = record.overall_frame()[["r1", "r2", "r", "num_params"]]
    return rows[rows["path"] == path].merge(overall, on=["r1", "r2", "r"])


def layers(request: AlignRequest, record: AlignRecord | None, components: Components) -> pd.DataFrame:
    """One row per layer, or per kind of layer where there are many, for one configuration.

    Columns: layer, predicted, measured, low, high (spread over initialisations, over layers where several share a
    row), best, share (of the gradient's energy). All but layer and predicted are missing before a measurement.
    """
    if record is None:
        found = select(request.shapes(), request.target_modules)
        rows = [(_short(s.path), components.alignment(s.in_features), s.count) for s in found]
        table = pd.DataFrame(rows, columns=["layer", "predicted", "count"])
        return table.assign(measured=math.nan, low=math.nan, high=math.nan, best=math.nan, share=math.nan)
    rows = record.layers_frame()
    at = (rows["r1"] == components.r1) & (rows["r2"] == components.r2) & (rows["r"] == components.r)
    rows = rows[at].merge(record.spectra_frame()[["path", "energy"]], on="path")
    rows = rows.assign(low=rows["measured"] - rows["measured_sd"], high=rows["measured"] + rows["measured_sd"])
    many = len(rows) > MAX_LAYERS
    rows["layer"] = [_short(path, index=not many) for path in rows["path"]]
    total = rows["energy"].sum()
    how = {"predicted": "mean", "measured": "mean", "low": "min", "high": "max", "best": "mean", "energy": "sum"}
    table = rows.groupby("layer", sort=False).agg({**how, "path": "count"}).reset_index()
    return table.rename(columns={"path": "count"}).assign(share=table["energy"] / total if total else math.nan)


def _short(path: str, index: bool = False) -> str:
    """``layers.3.attention.q_proj``, or ``attention.q_proj`` where all layers share a row."""
    parts = [part for part in path.split(".") if index or not (part == "*" or part.isdecimal())]
    return ".".join(parts[-4 if index else -2 :])


def position(value: float | np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """The position of a value on an axis that gives each of ``values`` one unit, logarithmic between them."""
    logs = np.log2(np.array(values, dtype=float))
    ends = logs[0] - (logs[1] - logs[0]) / 2, logs[-1] + (logs[-1] - logs[-2]) / 2
    places = np.r_[0.0, np.arange(len(values)) + 0.5, float(len(values))]
    return np.interp(np.log2(value), np.r_[ends[0], logs, ends[1]], places, left=math.nan, right=math.nan)


def contours(request: AlignRequest, r: int) -> pd.DataFrame:
    """Lines of equal parameters over the map: columns level (a LoRA rank), num_params, branch, x, y; sorted along each.

    Cost depends on the ratio q = r2/r1 only, r (q outs + ins/q), so a line of equal cost is a straight diagonal in
    log r1, log r2: one where r2 is large, which aligns, and one where r1 is large, which does not. (ours)
    """
    columns = ["level", "num_params", "branch", "x", "y"]
    if len(request.r1_values) < 2 or len(request.r2_values) < 2:
        return pd.DataFrame(columns=columns)
    linears = select(request.shapes(), request.target_modules)
    outs, ins = (sum(s.count * getattr(s, name) for s in linears) for name in ("out_features", "in_features"))
    tall = np.exp2(np.linspace(np.log2(request.r1_values[0]) - 1, np.log2(request.r1_values[-1]) + 1, 241))
    rows = []
    for level in LORA_LEVELS:
        cost = level * (outs + ins)
        inside = (cost / r) ** 2 - 4 * outs * ins
        if inside < 0:
            continue
        for branch, sign in (("wide", 1), ("tall", -1)):
            ratio = (cost / r + sign * math.sqrt(inside)) / (2 * outs)
            y, x = position(tall, request.r1_values), position(tall * ratio, request.r2_values)
            rows += [
                (level, cost, branch, a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)
            ]
    return pd.DataFrame(rows, columns=columns)


def lora(request: AlignRequest, rows: pd.DataFrame) -> pd.DataFrame:
    """LoRA of each rank, cheapest first: those of the map, and before a measurement every power of two that costs as
    much as something on it.
    """
    if rows["measured"].notna().all():
        return rows[(rows["r1"] == 1) & (rows["r2"] == 1)].sort_values("r")
    linears = select(request.shapes(), request.target_modules)
    ranks = 2 ** np.arange(16)
    columns = columns_for(linears, np.ones_like(ranks), np.ones_like(ranks), ranks)
    table = pd.DataFrame(
        {"r1": 1, "r2": 1, "r": ranks, "num_params": columns.num_params, "predicted": columns.alignment}
    )
    return table[table["num_params"] <= rows["num_params"].max()]


def bargains(rows: pd.DataFrame) -> pd.DataFrame:
    """The options worth their parameters, r2 at least r1: one row per r and ratio r2/r1, cheapest first."""
    wide = rows[rows["r2"] >= rows["r1"]].assign(ratio=lambda d: d["r2"] / d["r1"])
    return wide.sort_values(["r", "ratio", "r1"]).drop_duplicates(["r", "ratio"])
