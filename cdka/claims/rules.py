"""Rules that turn the finished runs of one regime into one number per seed, positive where it supports the claim.

Every rule counts seeds, not runs: runs of one seed share their data order and are not independent. (ours)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd

from cdka.claims import advice, bases, lokr, rates
from cdka.claims.designs import pairs
from cdka.claims.evidence import Case, Evidence
from cdka.compare import Comparison
from cdka.components import Components
from cdka.cost.adapter import num_params
from cdka.runs.events import Step
from cdka.runs.metrics import EVAL_ACCURACY, TRAIN_LOSS
from cdka.runs.run import Run
from cdka.runs.states import KEPT, RunState
from cdka.runs.store import Store
from cdka.stats.rank_correlation import MIN_POINTS, rank_correlation, spearman
from cdka.stats.trend import find_series, gains, slopes
from cdka.theory.alignment import combine

SMOOTH = 5
"""Steps that the loss is averaged over before its rises and falls are added up."""
MARGIN = 0.01
"""Largest distance below LoRA at which CDKA still counts as close to it."""


def _slope(factor: str, sign: float) -> Callable[[Case], Evidence]:
    def rule(case: Case) -> Evidence:
        found = case.compared()
        series = find_series(found.arms, factor, found.settings)
        levels = {row.arm: int(getattr(row, factor)) for row in found.arms[found.arms["method"] == "cdka"].itertuples()}
        values = slopes(found.table, series, levels).to_numpy(dtype=float) if series else np.empty(0)
        remark = _course(found, series, levels, factor) if series else ""
        return Evidence(sign * values, f"{case.measure} per doubling of {factor}", sign, 0.0, remark)

    return rule


def _beyond_control(case: Case) -> Evidence:
    """Per seed, the slope over r2 minus the slope over r1 of the series that costs the same."""
    found, slope = case.compared(), {}
    for factor in ("r2", "r1"):
        series = [one for one in find_series(found.arms, factor, found.settings) if len(one) > 2]
        levels = {row.arm: int(getattr(row, factor)) for row in found.arms[found.arms["method"] == "cdka"].itertuples()}
        slope[factor] = slopes(found.table, series, levels) if series else pd.Series(dtype=float)
    unit = f"{case.measure} per doubling of r2 over that per doubling of r1, equal parameters"
    means = ", ".join(f"{factor} {values.mean():+.3f}" for factor, values in slope.items() if len(values))
    remark = f" Per doubling: {means}." if means else ""
    return Evidence((slope["r2"] - slope["r1"]).to_numpy(dtype=float), unit, remark=remark)


def _course(found: Comparison, series: list[list[str]], levels: dict[str, int], factor: str) -> str:
    """The whole change, and whether it goes one way: a slope alone would hide a valley."""
    steps = [step for step in gains(found.table, series, levels) if np.isfinite(step["gain"])]
    if not steps:
        return ""
    whole = sum(step["gain"] for step in steps)
    remark = f" From {factor} {steps[0]['from']} to {steps[-1]['to']}: {whole:+.3f}"
    sizes = found.arms.set_index("arm")["num_params"]
    small, large = (sizes.get(series[0][i]) for i in (0, -1))
    if pd.notna(small) and pd.notna(large) and small != large:
        remark += f", with {large / small:.1f} times the parameters"
    turns = [(a, b) for a, b in pairwise(steps) if _way(a) * _way(b) < 0]
    if turns:
        a, b = turns[0]
        remark += (
            f"; not one way: {a['gain']:+.3f} from {a['from']} to {a['to']}, {b['gain']:+.3f} from {b['from']} to "
            f"{b['to']}"
        )
    elif any(_way(step) for step in steps) and len({np.sign(step["gain"]) for step in steps}) > 1:
        listed = ", ".join(f"{step['gain']:+.3f}" for step in steps)
        remark += f"; doubling by doubling {listed}"
    return remark + "."


def _way(step: dict) -> int:
    """The direction of a step that its own interval resolves, else 0."""
    return 1 if step["ci_low"] > 0 else -1 if step["ci_high"] < 0 else 0


def _diminishes(case: Case) -> Evidence:
    """The first doubling's gain minus the last one's."""
    found = case.compared()
    series = find_series(found.arms, "r", found.settings)
    unit = f"gain in {case.measure} of the first doubling of r over that of the last"
    if not series or len(series[0]) < 3:
        return Evidence(np.empty(0), unit)
    steps = found.table.loc[series[0]].diff().iloc[1:]
    means = ", ".join(f"{value:+.3f}" for value in steps.mean(axis=1, skipna=True))
    return Evidence((steps.iloc[0] - steps.iloc[-1]).to_numpy(dtype=float), unit, remark=f" The doublings: {means}.")


def _pairs(case: Case) -> Evidence:
    """Per seed, the mean over budgets of r2 > r1 minus the exchanged option."""
    found = case.compared()
    arms = {_components(found, arm): arm for arm in found.arms[found.arms["method"] == "cdka"]["arm"]}
    differences = {
        f"{better} over {worse}": found.table.loc[arms[better]] - found.table.loc[arms[worse]]
        for better, worse in pairs(case.layers)
        if better in arms and worse in arms
    }
    unit = f"{case.measure} of r2 > r1 over r1 > r2 at equal parameters"
    if not differences:
        return Evidence(np.empty(0), unit)
    values = pd.concat(differences.values(), axis=1).mean(axis=1, skipna=False).to_numpy(dtype=float)
    listed = ", ".join(f"{name} {difference.mean():+.3f}" for name, difference in differences.items())
    return Evidence(values, unit, remark=f" Budget by budget: {listed}.")


def _against_lora(margin: float, opponent: str = "first", rank: int | None = None) -> Callable[[Case], Evidence]:
    """CDKA minus LoRA plus a margin. The design names the CDKA arm before anything ran: its first or its largest.

    ``rank`` names LoRA's; without it the better of several LoRA arms is taken, by validation.
    """

    def rule(case: Case) -> Evidence:
        found = case.compared()
        rows = found.arms[found.arms["n"] > 0]
        lora = rows[(rows["method"] == "lora") & (rank is None or rows["rank"] == rank)]["arm"].to_list()
        own = rows[rows["method"] == "cdka"]
        named = own["arm"].to_list()
        if opponent == "largest":
            named.sort(key=lambda arm: -num_params(case.layers, _components(found, arm)))
        cdka = next(iter(named), None)
        if not lora or cdka is None:
            return Evidence(np.empty(0), f"{case.measure} of CDKA over LoRA")
        best = max(lora, key=lambda arm: _on_validation(found, arm))
        values = (found.table.loc[cdka] - found.table.loc[best]).to_numpy(dtype=float)
        remark = f" Supported where the whole interval is above -{margin:g}." if margin else ""
        if case.searched:
            remark += _rates(case, found, {"CDKA": cdka, "LoRA": best})
        return Evidence(
            values + margin, f"{case.measure} of {found.labels[cdka]} over {found.labels[best]}", 1.0, margin, remark
        )

    return rule


def _rates(case: Case, found: Comparison, arms: dict[str, str]) -> str:
    """The learning rates that won on validation; one at the edge of the search might win by more outside it."""
    tried = sorted({run.spec.lr for run in case.runs})
    remarks = []
    for name, arm in arms.items():
        rate = float(found.settings[arm]["lr"])
        remarks.append(f"{name} {rate:g}" + (", the edge of the search" if rate in (tried[0], tried[-1]) else ""))
    return f" Rates chosen on validation: {'; '.join(remarks)}."


def _on_validation(found: Comparison, arm: str) -> float:
    """The mean accuracy of an arm on validation; of two scalings of LoRA the better is chosen by it."""
    rows = found.frame[(found.frame["arm"] == arm) & found.frame["status"].isin(KEPT)]
    score = float(rows[EVAL_ACCURACY].astype(float).mean()) if EVAL_ACCURACY in rows else np.nan
    return score if np.isfinite(score) else -np.inf


def _two_sizes(case: Case) -> tuple[pd.DataFrame, Components | None, Components | None]:
    """Validation scores by (seed, size, rule) and rate, the large components and the small ones."""
    found = rates.scores(case, "seed")
    own = sorted({run.spec.components for run in case.runs}, key=lambda c: c.r * c.r2)
    return (found, own[-1], own[0]) if len(found) and len(own) > 1 else (found, None, None)


def _best_rates(found: pd.DataFrame, seed: int) -> dict[tuple[str, str], float]:
    """log2 of the best rate by (size, rule) of one seed, where every rate has ended."""
    own = found.loc[seed]
    return {key: rates.best_rate(row) for key, row in own.iterrows() if row.notna().all()}


def _nearer(case: Case) -> Evidence:
    """Per seed, the distance of the best rates of large and small components with no factor minus that with 1/sqrt(r
    r2), in doublings.
    """
    unit = "doublings by which the best rates of large and small components lie further apart without the factor"
    found, large, small = _two_sizes(case)
    if large is None:
        return Evidence(np.empty(0), unit)
    values, each = [], []
    for seed in found.index.get_level_values("base").unique():
        best = _best_rates(found, seed)
        each.append(best)
        apart = [
            abs(best.get((str(large), rule), np.nan) - best.get((str(small), rule), np.nan))
            for rule in ("none", "sqrt_r_r2")
        ]
        values.append(apart[0] - apart[1])
    rows = [(size, rule) for size, rule in dict.fromkeys(key for best in each for key in best)]
    listed = ", ".join(
        f"{size} {rule} {2 ** np.mean([best[size, rule] for best in each if (size, rule) in best]):.2g}"
        for size, rule in rows
    )
    return Evidence(np.array(values), unit, remark=f" Best rates: {listed}." if listed else "")


def _rougher(case: Case) -> Evidence:
    """Per seed, the instability of large components at their best rate with no factor minus that with 1/sqrt(r r2)."""
    unit = "instability (rise of the loss per fall) at the best rate without any factor over that with 1/sqrt(r r2)"
    found, large, _ = _two_sizes(case)
    if large is None:
        return Evidence(np.empty(0), unit)
    at = {(run.spec.seed, run.spec.scaling_rule, run.spec.lr): run for run in case.runs if run.spec.components == large}
    chosen: dict[str, dict[int, Run]] = {}
    for seed, size, rule in found.index:
        row = found.loc[seed, size, rule]
        if size == str(large) and row.notna().all():
            chosen.setdefault(rule, {})[seed] = at[seed, rule, float(row.idxmax())]
    share = instability(case.store, [run for own in chosen.values() for run in own.values()])
    with_, without = (
        {seed: share[run.run_id] for seed, run in chosen.get(rule, {}).items()} for rule in ("sqrt_r_r2", "none")
    )
    values = np.array([without[seed] - with_[seed] for seed in sorted(with_.keys() & without.keys())])
    remarks = []
    for rule, own in chosen.items():
        every = [run for (_, kind, _), run in at.items() if kind == rule]
        lost = sum(run.status == RunState.FAILED for run in every)
        mean = np.nanmean([share[run.run_id] for run in own.values()])
        remarks.append(f"{large} {rule} {mean:.2f}" + (f" ({lost} of {len(every)} runs diverged)" if lost else ""))
    return Evidence(values, unit, remark=f" Instability: {', '.join(remarks)}." if remarks else "")


def instability(store: Store, runs: list[Run]) -> dict[str, float]:
    """By run, how much its training loss rose for what it fell, 0 (smooth) to 1 (nowhere), a diverged run's 1. (ours)

    Of the mean over ``SMOOTH`` steps, so that the noise of single batches does not count.
    """
    curves = store.curves([run.run_id for run in runs])
    train = (
        curves[curves["kind"] == Step.kind] if len(curves) else pd.DataFrame({"run_id": [], "step": [], TRAIN_LOSS: []})
    )
    by_run = {
        run_id: rows.sort_values("step")[TRAIN_LOSS].to_numpy(dtype=float) for run_id, rows in train.groupby("run_id")
    }
    return {
        run.run_id: 1.0 if run.status == RunState.FAILED else roughness(by_run.get(run.run_id, np.empty(0)))
        for run in runs
    }


def roughness(losses: np.ndarray) -> float:
    """The total rise over the total fall of the smoothed losses, at most 1."""
    if len(losses) <= SMOOTH:
        return float("nan")
    changes = np.diff(np.convolve(losses, np.full(SMOOTH, 1 / SMOOTH), "valid"))
    rise, fall = changes[changes > 0].sum(), -changes[changes < 0].sum()
    return float(min(1.0, rise / fall)) if fall > 0 else float(rise > 0)


def _correlates(case: Case) -> Evidence:
    """Spearman's rank correlation of predicted alignment with the mean metric; its interval is over configurations."""
    found = case.compared()
    inputs = [layer.in_features for layer in case.layers for _ in range(layer.count)]
    means = found.table.mean(axis=1).dropna()
    predicted = np.array([combine([_components(found, arm).alignment(n) for n in inputs]) for arm in means.index])
    unit = f"rank correlation of predicted alignment with {case.measure}"
    if len(means) < MIN_POINTS:
        return Evidence(np.empty(0), unit, bound=1.0, counted="configuration")
    ranks = rank_correlation(predicted, means.to_numpy())
    sizes = found.arms.set_index("arm")["num_params"].reindex(means.index).astype(float)
    remark = ""
    if sizes.nunique() > 1 and sizes.notna().all():
        remark = f" The number of parameters alone: {float(spearman(sizes.to_numpy(), means.to_numpy())):+.3f}."
    interval = (ranks.low, ranks.high, ranks.p, ranks.n)
    return Evidence(np.array([ranks.rho]), unit, remark=remark, bound=1.0, counted="configuration", interval=interval)


def _components(found: Comparison, arm: str) -> Components:
    row = found.arms[found.arms["arm"] == arm].iloc[0]
    return Components(int(row["r1"]), int(row["r2"]), int(row["r"]))


RULES: dict[str, Callable[[Case], Evidence]] = {
    "falls": _slope("r1", -1.0),
    "rises": _slope("r2", 1.0),
    "r2_beyond_r1": _beyond_control,
    "rises_with_r": _slope("r", 1.0),
    "diminishes": _diminishes,
    "pairs": _pairs,
    "beats_lora": _against_lora(0.0),
    "beats_lora_1": _against_lora(0.0, rank=1),
    "close_to_lora": _against_lora(MARGIN, "largest"),
    "close_to_lora_8": _against_lora(MARGIN, "largest", rank=8),
    "nearer": _nearer,
    "rougher": _rougher,
    "correlates": _correlates,
    **bases.RULES,
    **advice.RULES,
    **rates.RULES,
    **lokr.RULES,
}
"""By the name that a claim gives."""
