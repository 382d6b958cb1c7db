"""Studies along learning rates: whether one rate fits all sizes, how many rates work, what is forgotten. (ours)

Every size is trained on every base model at eight rates a factor of two apart, with the paper's scaling rule and with
none, and judged on validation data. A rate works where its accuracy is within ``CLOSE`` of the best of its own size.
What is kept of an old task depends on how far training goes; along the rates it is read where two methods have reached
the same accuracy on the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cdka.claims.evidence import Case, Evidence
from cdka.components import Components
from cdka.runs.metrics import EVAL_ACCURACY
from cdka.runs.states import KEPT, RunState
from cdka.stats import interval

RULES_TRIED = ("sqrt_r_r2", "none")
LORA_2, LIKE_LORA_2 = Components(1, 1, 2), Components(8, 8, 2)
"""Equal parameters and equal predicted alignment on square layers."""
SIZES = (LORA_2, Components(1, 1, 8), LIKE_LORA_2, Components(4, 16, 3), Components(4, 32, 4))
"""r r2 from 2 to 128; the first two are LoRA with rsLoRA scaling."""
CLOSE = 0.05


def sizes_under_both_rules(bases: Sequence[str]) -> list[dict[str, Any]]:
    """The arms: every size under every rule on every base."""
    return [
        {"model": base, "components": size, "scaling_rule": rule}
        for base in bases
        for size in SIZES
        for rule in RULES_TRIED
    ]


def scores(case: Case, unit: str = "model") -> pd.DataFrame:
    """Validation accuracy by (base, size, rule) and rate, the mean over seeds; a diverged run counts as 0, not as good.

    With ``unit="seed"`` by (seed, size, rule), under the name base too. NaN where a run has not ended.
    """
    rows = [
        {
            "base": getattr(run.spec, unit),
            "size": str(run.spec.components),
            "rule": run.spec.scaling_rule,
            "lr": run.spec.lr,
            "score": 0.0 if run.status == RunState.FAILED else (run.metrics or {}).get(EVAL_ACCURACY, np.nan),
        }
        for run in case.runs
        if run.status in (*KEPT, RunState.FAILED)
    ]
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).pivot_table(index=["base", "size", "rule"], columns="lr", values="score", sort=True)


def best_rate(values: pd.Series) -> float:
    """log2 of the best rate: the vertex of the parabola through the highest score and its neighbours, in log2 of lr.

    The rate itself where the highest score is at an end of the range tried.
    """
    rates, heights = np.log2(values.index.to_numpy(dtype=float)), values.to_numpy(dtype=float)
    top = int(np.nanargmax(heights))
    if top in (0, len(heights) - 1) or not np.isfinite(heights[[top - 1, top + 1]]).all():
        return float(rates[top])
    left, middle, right = heights[top - 1 : top + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(rates[top] + shift * (rates[top + 1] - rates[top]))


def working_width(values: pd.Series) -> int:
    """The number of rates tried, a factor of two apart, that end within ``CLOSE`` of the best."""
    heights = values.to_numpy(dtype=float)
    return int((heights >= np.nanmax(heights) - CLOSE).sum())


def _by_base(case: Case, number: Callable[[pd.DataFrame], float]) -> pd.Series:
    """``number`` of the scores of each base that has every size under every rule at every rate."""
    found, out = scores(case), {}
    for base in found.index.get_level_values("base").unique() if len(found) else ():
        own = found.loc[base]
        if len(own) == len(SIZES) * len(RULES_TRIED) and not own.isna().to_numpy().any():
            out[base] = number(own)
    return pd.Series(out, dtype=float)


def _spread(own: pd.DataFrame, rule: str, sizes: Sequence[Components] = SIZES) -> float:
    """The largest minus the smallest best rate over the sizes, in doublings."""
    return float(np.ptp([best_rate(own.loc[(str(size), rule)]) for size in sizes]))


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{name} {value:+.1f}" for name, value in values.items())


def _case_text(case: Case) -> str:
    """Per size and rule, the best rate over the bases (their median) and how many of the rates work."""
    found, parts = scores(case), []
    for rule in RULES_TRIED:
        own = found.xs(rule, level="rule") if len(found) else found
        for size in SIZES if len(own) else ():
            rows = own.xs(str(size), level="size")
            rate = 2 ** np.median([best_rate(row) for _, row in rows.iterrows()])
            width = np.mean([working_width(row) for _, row in rows.iterrows()])
            parts.append(f"{size} {rule} {rate:.2g}, {width:.1f} of {rows.shape[1]}")
    return f" Best rate (median over bases) and working rates: {'; '.join(parts)}." if parts else ""


def one_rate_fits(case: Case) -> Evidence:
    """Per base, the spread of the best rates over sizes with no factor minus that with the paper's, in doublings."""
    values = _by_base(case, lambda own: _spread(own, "none") - _spread(own, "sqrt_r_r2"))
    unit = "doublings by which the best rates of the sizes lie further apart without the factor"
    each = {rule: _by_base(case, partial(_spread, rule=rule)) for rule in RULES_TRIED}
    spreads = "; ".join(f"{rule} {_listed(column)}" for rule, column in each.items() if len(column))
    remark = f" Spread, base by base: {spreads}.{_case_text(case)}" if spreads else ""
    return Evidence(values.to_numpy(), unit, remark=remark, counted="base model")


def wider_than_lora(case: Case) -> Evidence:
    """Per base, the number of working rates of CDKA (8,8,2) minus that of LoRA rank 2, which costs the same."""

    def number(own: pd.DataFrame) -> float:
        mine, theirs = (own.loc[(str(size), "sqrt_r_r2")] for size in (LIKE_LORA_2, LORA_2))
        return working_width(mine) - working_width(theirs)

    values = _by_base(case, number)
    unit = f"doublings of the rate that work with CDKA ({LIKE_LORA_2}) beyond those with LoRA rank 2"
    remark = f" Base by base: {_listed(values)}." if len(values) else ""
    return Evidence(values.to_numpy(), unit, remark=remark, counted="base model")


def recommended(case: Case) -> list[dict[str, Any]]:
    """The best rate of CDKA and of LoRA under 1/sqrt(r r2), for ``cdka.runs.learning_rate``.

    Per base, the mean over sizes of log2 of the best rate; the interval is the t interval over bases. Empty below two
    complete bases.
    """
    out = []
    for method, is_own in (("cdka", False), ("lora", True)):
        sizes = [size for size in SIZES if (size.r1 == size.r2 == 1) == is_own]
        best = _by_base(case, partial(_best_of, sizes=sizes))
        apart = _by_base(case, partial(_spread, rule="sqrt_r_r2", sizes=sizes))
        found = interval(best.to_numpy())
        if found.n < 2:
            return []
        ends = (found.low, found.high) if np.isfinite(found.low) else (found.mean, found.mean)
        lr, low, high = (float(f"{2**value:.3g}") for value in (found.mean, *ends))
        spec = case.runs[0].spec
        out.append(
            {
                "method": method,
                "models": sorted(best.index),
                "lr": lr,
                "low": low,
                "high": high,
                "alpha": spec.alpha,
                "steps": spec.steps,
                "sizes": [str(size) for size in sizes],
                "apart": round(float(apart.mean()), 2),
            }
        )
    return out


def _best_of(own: pd.DataFrame, sizes: Sequence[Components]) -> float:
    """The mean over sizes of log2 of the best rate under 1/sqrt(r r2)."""
    return float(np.mean([best_rate(own.loc[(str(size), "sqrt_r_r2")]) for size in sizes]))


KEEPERS = (Components(4, 8, 6), Components(1, 1, 8), Components(16, 16, 1), Components(1, 1, 1))
"""CDKA and LoRA (rsLoRA scaling) at the parameters of LoRA rank 8, then at those of rank 1."""
GOAL = 0.02
"""Two methods are compared where both are this far below the lower of their best accuracies."""


def forgetting(bases: Sequence[str]) -> list[dict[str, Any]]:
    """The arms: CDKA and LoRA at two prices, and full fine-tuning, on every base."""
    adapters = [{"model": base, "components": one} for base in bases for one in KEEPERS]
    return adapters + [{"model": base, "method": "full"} for base in bases]


def kept_at(new: np.ndarray, kept: np.ndarray, goal: float) -> float:
    """The accuracy kept where the new task first reaches ``goal`` along rising rates, linear between two rates.

    NaN where the goal is not reached, or already exceeded at the lowest rate.
    """
    above = np.flatnonzero(new >= goal)
    if not len(above) or above[0] == 0:
        return float("nan")
    i = above[0]
    share = (goal - new[i - 1]) / (new[i] - new[i - 1])
    return float(kept[i - 1] + share * (kept[i] - kept[i - 1]))


def _courses(case: Case) -> dict[tuple[str, str], pd.DataFrame]:
    """Accuracy on the new task and on the old one along the rates, by base and configuration, the mean over seeds."""
    rows = [
        {
            "key": (run.spec.model, str(run.spec.components or run.spec.method)),
            "lr": run.spec.lr,
            "new": (run.metrics or {}).get(case.metric, np.nan),
            "kept": (run.metrics or {}).get("retained/after_accuracy", np.nan),
        }
        for run in case.runs
        if run.status in KEPT
    ]
    if not rows:
        return {}
    table = pd.DataFrame(rows)
    return {key: own.groupby("lr")[["new", "kept"]].mean().dropna() for key, own in table.groupby("key")}


def _keeps(mine: str, other: str, name: str) -> Callable[[Case], Evidence]:
    """Per base, what one keeps of the old task minus what another keeps, at the same accuracy on the new one."""

    def rule(case: Case) -> Evidence:
        courses, values, goals = _courses(case), {}, []
        for base in dict.fromkeys(base for base, _ in courses):
            own = [courses.get((base, one)) for one in (mine, other)]
            if any(one is None or one.empty for one in own):
                continue
            goal = min(one["new"].max() for one in own) - GOAL
            a, b = (kept_at(one["new"].to_numpy(), one["kept"].to_numpy(), goal) for one in own)
            values[base] = a - b
            goals.append(goal)
        found = pd.Series(values, dtype=float)
        unit = f"{case.measure} kept on the old task by CDKA ({mine}) over {name}, at equal accuracy on the new one"
        remark = f" Compared at {min(goals):.3f} to {max(goals):.3f}." if goals else ""
        remark += f" Base by base: {', '.join(f'{key} {one:+.3f}' for key, one in found.items())}." if goals else ""
        return Evidence(found.to_numpy(), unit, remark=remark, counted="base model")

    return rule


RULES: dict[str, Callable[[Case], Evidence]] = {
    "one_rate_fits": one_rate_fits,
    "wider_than_lora": wider_than_lora,
    "keeps_beyond_lora_8": _keeps(str(KEEPERS[0]), str(KEEPERS[1]), "LoRA rank 8"),
    "keeps_beyond_lora_1": _keeps(str(KEEPERS[2]), str(KEEPERS[3]), "LoRA rank 1"),
    "keeps_beyond_full": _keeps(str(KEEPERS[0]), "full", "full fine-tuning"),
}
"""By the name that a claim gives."""
