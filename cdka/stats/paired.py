"""Paired comparisons across seeds, and the verdicts in words: better, worse, or not resolved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from cdka.formatting import p_value, plural, signed
from cdka.stats.intervals import LEVEL, band, holm, seeds_needed, t_test

BETTER, WORSE, UNRESOLVED = "better", "worse", "not resolved"
ALPHA = 1 - LEVEL


def reference_pairs(arms: Sequence[str], reference: str | None) -> list[tuple[str, str]]:
    """(arm, reference) for every other arm, or all pairs where there is no reference."""
    if reference is None:
        return [(b, a) for a, b in combinations(arms, 2)]
    return [(arm, reference) for arm in arms if arm != reference]


def compare_pairs(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """One row per pair (a, b): ``difference`` a - b over the seeds they share, its SD, 95 % interval, n and p.

    ``table`` holds values by arm and seed (``seed_table``). The test is the paired t-test; where fewer than two
    seeds are shared but both have at least two of their own it is Welch's, and ``test`` says so. p is NaN, and
    test empty, where there is nothing to estimate a spread from. p is not adjusted: see ``verdicts``.
    """
    where = {arm: i for i, arm in enumerate(table.index)}
    values = table.to_numpy(dtype=np.float64)
    left = np.array([where[a] for a, _ in pairs], dtype=int)
    right = np.array([where[b] for _, b in pairs], dtype=int)
    differences = values[left] - values[right] if len(pairs) else np.empty((0, values.shape[1]))
    n, mean, sd, low, high = band(differences)
    out = pd.DataFrame(
        {
            "a": [a for a, _ in pairs],
            "b": [b for _, b in pairs],
            "n": n,
            "difference": mean,
            "sd": sd,
            "ci_low": low,
            "ci_high": high,
            "p": t_test(differences),
            "test": np.where(n > 1, "paired t", ""),
        }
    )
    _unshared(out, values, left, right)
    return out


def _unshared(out: pd.DataFrame, values: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Fill in, from Welch's test, the pairs that share fewer than two seeds but have two or more each."""
    counts = np.isfinite(values).sum(axis=1)
    for row in np.flatnonzero((out["n"].to_numpy() < 2) & (counts[left] > 0) & (counts[right] > 0)):
        x, y = (values[side[row]][np.isfinite(values[side[row]])] for side in (left, right))
        if len(x) > 1 and len(y) > 1 and (np.ptp(x) > 0 or np.ptp(y) > 0):
            welch = stats.ttest_ind(x, y, equal_var=False)
            ends = welch.confidence_interval(LEVEL)
            spread = np.hypot(x.std(ddof=1), y.std(ddof=1))  # what differences of unrelated seeds would show
            out.loc[row, ["difference", "sd", "ci_low", "ci_high", "p"]] = [
                x.mean() - y.mean(),
                spread,
                ends.low,
                ends.high,
                welch.pvalue,
            ]
            out.loc[row, "test"] = "Welch t (seeds not shared)"
        elif out.loc[row, "n"] == 0:
            out.loc[row, "difference"] = x.mean() - y.mean()


def verdicts(
    table: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    higher_is_better: bool = True,
    estimate_seeds: bool = True,
) -> pd.DataFrame:
    """``compare_pairs`` with ``p_holm`` over the whole family, ``verdict`` of a against b, and ``more_seeds``.

    Family-wise error at most 5 %: Holm's step-down over all pairs given. ``more_seeds`` is for pairs that are not
    resolved: how many further shared seeds would resolve the observed difference with 80 % power at Bonferroni's
    level, None where that is more than 1000 or cannot be told (``estimate_seeds=False`` leaves it out). The intervals
    are for each pair alone.
    """
    out = compare_pairs(table, pairs)
    out["p_holm"] = holm(out["p"])
    resolved = out["p_holm"] < ALPHA
    up = (out["difference"] > 0) == higher_is_better
    out["verdict"] = np.where(resolved, np.where(up, BETTER, WORSE), UNRESOLVED)
    if not estimate_seeds:
        return out
    level = 1 - ALPHA / max(1, int(out["p"].notna().sum()))
    out["more_seeds"] = pd.array(
        [
            None if done else _more(row_n, difference, sd, level)
            for done, row_n, difference, sd in zip(resolved, out["n"], out["difference"], out["sd"], strict=True)
        ],
        dtype="Int64",
    )
    return out


def _more(n: int, difference: float, sd: float, level: float) -> int | None:
    needed = seeds_needed(difference, sd, level)
    return None if needed is None else max(1, needed - int(n))


def sentence(row: pd.Series, labels: dict[str, str] | None = None) -> str:
    """One verdict in words: ``cdka 2,8,4 is better than lora 8: +0.021 (95 % interval ...), p = 0.003, 5 seeds``."""
    name = labels or {}
    a, b = name.get(row["a"], row["a"]), name.get(row["b"], row["b"])
    seeds = plural(row["n"], "shared seed")
    size = "" if pd.isna(row["difference"]) else " " + signed(row["difference"])
    if pd.notna(row["ci_low"]):
        ends = f"{signed(row['ci_low'])} to {signed(row['ci_high'])}"
        size += f" (95 % interval {ends}; Holm {p_value(row['p_holm'])}; {seeds})"
    elif size:
        size += f" ({seeds})"
    if row["verdict"] != UNRESOLVED:
        return f"{a} is {row['verdict']} than {b}:{size}"
    return f"{a} against {b}: not resolved,{size or ' no shared value'}; {needs(row)}"


def needs(row: pd.Series) -> str:
    """The sentence on how many more seeds would resolve an unresolved pair."""
    if pd.notna(row["more_seeds"]):
        return f"needs about {plural(row['more_seeds'], 'more seed')}"
    if pd.isna(row["p"]):
        return "needs at least two shared seeds"
    return "no difference to speak of: not even 1000 seeds would settle it"
