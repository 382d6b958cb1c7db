"""The factor curve of a study: the metric at each level, and its slope along training. (ours)

The slope along training comes from the validation curves of the same runs. It shows where a regime ends and the next
begins, so that nobody need take the choice of two regimes on trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdka.claims.catalogue import STUDIES
from cdka.claims.judge import runs_by_regime
from cdka.compare import Measure, StoreSource, compare
from cdka.runs.events import Evaluated
from cdka.runs.metrics import TEST_ACCURACY, measure_of
from cdka.runs.run import Run, Sweep
from cdka.runs.store import Store
from cdka.stats.intervals import band
from cdka.stats.trend import find_series, gains, slopes

FACTORS = {"falls": "r1", "rises": "r2", "rises_with_r": "r"}
"""The factor that a rule looks at."""


@dataclass(frozen=True)
class FactorCurve:
    """One regime of a study of one factor.

    By level: ``values`` per seed, ``means``, 95 % ``intervals`` and ``num_params``. ``steps`` are the changes from
    level to level (``stats.trend.gains``); ``slopes`` holds (step, mean, low, high) of the validation metric per
    doubling.
    """

    regime: str
    levels: tuple[int, ...]
    values: dict[int, tuple[float, ...]]
    means: dict[int, float]
    intervals: dict[int, tuple[float, float]]
    num_params: dict[int, int | None]
    steps: tuple[dict, ...]
    slopes: tuple[tuple[int, float, float, float], ...]


def factor_curves(store: Store, sweep: Sweep, metric: str = TEST_ACCURACY) -> tuple[str, list[FactorCurve]]:
    """The factor that a study varies, and its curve in each regime; empty for a study of something else."""
    rules = [claim.rule for claim in STUDIES[sweep.plan["study"]].claims]
    factor = next((FACTORS[rule] for rule in rules if rule in FACTORS), "")
    if not factor:
        return "", []
    found = [factor_curve(store, runs, regime, factor, metric) for regime, runs in runs_by_regime(store, sweep).items()]
    return factor, [one for one in found if one is not None]


def factor_curve(
    store: Store, runs: Sequence[Run], regime: str, factor: str, metric: str = TEST_ACCURACY
) -> FactorCurve | None:
    """The factor curve of the CDKA runs of one regime; None where they do not vary ``factor`` or none has ended."""
    own = [run.run_id for run in runs if run.spec.method == "cdka"]
    if not own:
        return None
    source = StoreSource(store, run_ids=own)
    found = compare(source, Measure(metric=metric))
    series = find_series(found.arms, factor, found.settings)
    if not series or not found.table.notna().any(axis=None):
        return None
    rows = found.arms.set_index("arm").loc[series[0]]
    level_of = {arm: int(rows.loc[arm, factor]) for arm in series[0]}
    levels = tuple(level_of.values())
    table = found.table.loc[series[0]]
    curves = source.curves(own)
    return FactorCurve(
        regime,
        levels,
        {level_of[a]: tuple(float(v) for v in table.loc[a] if np.isfinite(v)) for a in series[0]},
        {level_of[a]: float(rows.loc[a, "mean"]) for a in series[0]},
        {level_of[a]: (float(rows.loc[a, "ci_low"]), float(rows.loc[a, "ci_high"])) for a in series[0]},
        {level_of[a]: None if np.isnan(p := float(rows.loc[a, "num_params"])) else int(p) for a in series[0]},
        tuple(gains(found.table, series[:1], level_of)),
        _along(curves, runs, factor, metric),
    )


def _along(curves: pd.DataFrame, runs: Sequence[Run], factor: str, metric: str) -> tuple:
    """(step, slope, low, high) at every step where validation was looked at by all levels of some seed."""
    column = f"eval/{measure_of(metric)}"
    if curves.empty or column not in curves.columns:
        return ()
    where = {
        run.run_id: (int(getattr(run.spec.components, factor)), run.spec.seed) for run in runs if run.spec.components
    }
    seen = curves[(curves["kind"] == Evaluated.kind) & curves["run_id"].isin(where)]
    level, seed = (seen["run_id"].map(lambda run_id, i=i: where[run_id][i]) for i in (0, 1))
    values = seen.assign(level=level, seed=seed).pivot_table(
        index=["step", "level"], columns="seed", values=column, dropna=False
    )
    levels = sorted({level for level, _ in where.values()})
    along = []
    for step in values.index.levels[0]:
        table = values.loc[step].reindex(levels)
        _, mean, _, low, high = band(slopes(table, [levels], {n: n for n in levels}).to_numpy(dtype=float))
        if np.isfinite(mean):
            along.append((int(step), float(mean), float(low), float(high)))
    return tuple(along)
