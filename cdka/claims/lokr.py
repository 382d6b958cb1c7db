"""The study of LoKr's published gain: how much is the design, how much the rate, how much the number of parameters.

A benchmark of PEFT's LoKr rose when three things were changed at once: from one component split near the square root of
both dimensions to many components with r1 = 1, a rate 30 times higher, and eight times the parameters. Here all eight
combinations are trained. What each change adds is averaged over the six orders in which the three can be made (its
Shapley value), so that the three parts add up to the whole. (ours)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from cdka.claims.evidence import Case, Evidence
from cdka.components import Components
from cdka.runs.metrics import EVAL_ACCURACY
from cdka.runs.states import KEPT, RunState

SQUARE = (Components(16, 16, 2), Components(16, 16, 17))
"""LoKr's design, small and large: the splits of 128 and 256 nearest to their square roots, with 1/sqrt(r r2)."""
THIN = (Components(1, 4, 1), Components(1, 4, 8))
"""The design that the benchmark moved to, at the same parameters: 6 % more for the small, exactly for the large."""
FACTORS = ("design", "rate", "size")


def factorial(bases: Sequence[str]) -> list[dict[str, Any]]:
    """The arms: both designs in both sizes on every base."""
    return [{"model": base, "components": one} for base in bases for one in (*SQUARE, *THIN)]


def shares(cell: Callable[[bool, bool, bool], float]) -> np.ndarray:
    """The parts of design, rate and size in the way from ``cell(False, False, False)`` to ``cell(True, True, True)``.

    Each is the mean over the six orders of the three changes, so that they add up to the whole.
    """
    added = np.zeros(3)
    orders = list(permutations(range(3)))
    for order in orders:
        state = [False, False, False]
        for factor in order:
            before = cell(*state)
            state[factor] = True
            added[factor] += cell(*state) - before
    return added / len(orders)


def _scores(case: Case, metric: str) -> pd.DataFrame:
    """The metric by base (rows) and (components, rate) (columns), the mean over seeds; NaN where a run diverged."""
    rows = [
        {
            "base": run.spec.model,
            "components": str(run.spec.components),
            "lr": run.spec.lr,
            "score": (run.metrics or {}).get(metric, np.nan),
        }
        for run in case.runs
        if run.status in KEPT
    ]
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).pivot_table(index="base", columns=["components", "lr"], values="score")


def _cell(own: pd.Series, rates: Sequence[float], thin: bool, high: bool, large: bool) -> float:
    """The score of one combination on one base; NaN where it has none."""
    components = (THIN if thin else SQUARE)[large]
    return float(own.get((str(components), rates[-1] if high else rates[0]), math.nan))


def _told(case: Case, scores: pd.DataFrame, rates: Sequence[float]) -> str:
    """The mean over bases of all eight combinations, and the runs that diverged."""
    cells = [
        f"{(THIN if thin else SQUARE)[large]} at {rates[-1] if high else rates[0]:g} "
        f"{np.mean([_cell(own, rates, thin, high, large) for _, own in scores.iterrows()]):.3f}"
        for large in (False, True)
        for thin in (False, True)
        for high in (False, True)
    ]
    lost = sum(run.status == RunState.FAILED for run in case.runs)
    return f" Combinations, mean over bases: {'; '.join(cells)}." + (f" {lost} runs diverged." if lost else "")


def _part(factor: str) -> Callable[[Case], Evidence]:
    """Per base, the part of one change in the whole."""

    def rule(case: Case) -> Evidence:
        scores, rates = _scores(case, case.metric), sorted({run.spec.lr for run in case.runs})
        unit = f"{case.measure} that the {factor} adds of the whole, mean over the orders of the three changes"
        if scores.empty:
            return Evidence(np.empty(0), unit, counted="base model")
        parts = [shares(lambda *state, own=own: _cell(own, rates, *state)) for _, own in scores.iterrows()]
        values = np.array([part[FACTORS.index(factor)] for part in parts])
        whole = np.array([part.sum() for part in parts])
        known = np.isfinite(whole).any()
        remark = f" The whole: {np.nanmean(whole):+.3f}.{_told(case, scores, rates)}" if known else ""
        return Evidence(values, unit, remark=remark, counted="base model")

    return rule


def _at_best_rates(case: Case) -> Evidence:
    """Per base, the mean over sizes of the thin design minus the square one, each at its best rate on validation."""
    unit = f"{case.measure} of (1,4,r) over (16,16,r) at equal parameters, each at its best rate"
    test, validation = _scores(case, case.metric), _scores(case, EVAL_ACCURACY)
    if test.empty or validation.empty:
        return Evidence(np.empty(0), unit, counted="base model")
    gains: dict[str, list[float]] = {}
    for base in test.index:
        at_best = {}
        for one in (*SQUARE, *THIN):
            own = validation.loc[base].get(str(one), pd.Series(dtype=float)).dropna()
            at_best[one] = math.nan if own.empty else float(test.loc[base][str(one), float(own.idxmax())])
        gains[base] = [at_best[thin] - at_best[square] for thin, square in zip(THIN, SQUARE, strict=True)]
    each = pd.DataFrame(gains).T
    listed = ", ".join(f"({thin}) over ({square}) {each[i].mean():+.3f}" for i, (thin, square) in _pairs())
    return Evidence(
        each.mean(axis=1, skipna=False).to_numpy(), unit, remark=f" Size by size: {listed}.", counted="base model"
    )


def _pairs() -> list[tuple[int, tuple[Components, Components]]]:
    return list(enumerate(zip(THIN, SQUARE, strict=True)))


RULES: dict[str, Callable[[Case], Evidence]] = {
    **{f"lokr_{factor}": _part(factor) for factor in FACTORS},
    "lokr_best_rates": _at_best_rates,
}
"""By the name that a claim gives."""
