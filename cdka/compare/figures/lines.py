"""From long tables of points to one aligned set of curves per arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdka.compare.comparison import Comparison
from cdka.runs.states import RunState


@dataclass(frozen=True)
class Grid:
    """Values and places of all runs on their common steps: arrays (runs, steps), NaN where a run has no point."""

    run_ids: tuple[str, ...]
    steps: np.ndarray
    x: np.ndarray
    y: np.ndarray


def grid(curves: pd.DataFrame, x: str, y: str) -> Grid:
    """The points of one metric ``y`` of ``Store.curves`` as a ``Grid``; of a repeated step the last.

    This is the slow part of drawing curves (one pass over all points), and does not depend on what is shown.
    """
    points = curves[curves[y].notna().to_numpy()]
    rows, run_ids = pd.factorize(points["run_id"])
    columns, steps = pd.factorize(points["step"].to_numpy(), sort=True)
    values = np.full((len(run_ids), len(steps)), np.nan)
    values[rows, columns] = points[y].to_numpy(dtype=float)
    if x == "step":
        places = np.broadcast_to(steps.astype(float), values.shape)
    else:
        places = np.full(values.shape, np.nan)
        places[rows, columns] = points[x].to_numpy(dtype=float)
    return Grid(tuple(run_ids), steps, places, values)


@dataclass(frozen=True)
class Line:
    """The curve of one arm: seeds (n, points) at places xs (n, points); x is the places' mean over seeds."""

    arm: str
    x: np.ndarray
    seeds: np.ndarray
    xs: np.ndarray
    run_ids: tuple[str, ...]

    @property
    def whole(self) -> np.ndarray:
        """The points that every seed has reached: the mean and its band end with the first seed that ends."""
        return np.isfinite(self.seeds).all(axis=0)


def lines(points: Grid, comparison: Comparison, shown: Sequence[str]) -> list[Line]:
    """One ``Line`` per shown arm with at least one point. Failed and lost runs draw no line."""
    frame = comparison.frame
    usable = ~frame["status"].isin([RunState.FAILED, RunState.LOST])
    rows_of: dict[str, list[int]] = {}
    where = {run_id: i for i, run_id in enumerate(points.run_ids)}
    for run_id, arm in zip(frame.loc[usable, "run_id"], frame.loc[usable, "arm"], strict=True):
        if run_id in where:
            rows_of.setdefault(arm, []).append(where[run_id])
    found = []
    for arm in shown:
        rows = rows_of.get(arm, [])
        seeds = points.y[rows]
        there = np.isfinite(seeds).any(axis=0)
        if not there.any():
            continue
        seeds, xs = seeds[:, there], points.x[rows][:, there]
        count = np.isfinite(xs).sum(axis=0)
        mean_x = np.where(np.isfinite(xs), xs, 0.0).sum(axis=0) / np.maximum(count, 1)
        found.append(Line(arm, mean_x, seeds, xs, tuple(points.run_ids[row] for row in rows)))
    return found
