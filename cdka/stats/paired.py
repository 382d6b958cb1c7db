"""Paired comparisons across seeds, and the verdicts: better, worse, or not resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from cdka.errors import CdkaError
from cdka.formatting import p_value, plural, signed
from cdka.stats.intervals import LEVEL, band, interval, t_test
from cdka.stats.multiple_comparisons import holm
from cdka.stats.power import MAX_SEEDS, seeds_needed, seeds_range

BETTER, WORSE, UNRESOLVED = "better", "worse", "not resolved"
ALPHA = 1 - LEVEL
TOP_UP = (
    "Adding seeds until a pair is resolved makes two to four times as many false positives. Decide before the first "
    "look that there will be a second, and at how many seeds (two looks hold each to 2.5 %), or judge the new seeds "
    "alone."
)
"""The warning that belongs beside every number of further seeds."""


@dataclass(frozen=True)
class Paired:
    """The difference a - b over the ``n`` seeds that both have: mean, SD, 95 % interval and p of the paired t-test."""

    n: int
    difference: float
    sd: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        if not np.isfinite(self.low):
            return f"{self.difference:+.3f} (no interval, n = {self.n})"
        ends = f"{self.low:+.3f} to {self.high:+.3f}"
        return f"{self.difference:+.3f} (95 % interval {ends}, {p_value(self.p)}, n = {self.n})"


def paired(a: Sequence[float] | np.ndarray | pd.Series, b: Sequence[float] | np.ndarray | pd.Series) -> Paired:
    """The paired comparison of two arms' scores, seed by seed; a seed counts where both have a score.

    Two Series are matched by their index. Raises CdkaError where arrays differ in length. For several pairs with Holm's
    adjustment, see ``verdicts``.

    >>> print(paired([0.91, 0.88, 0.93], [0.89, 0.87, 0.90]))
    +0.020 (95 % interval -0.005 to +0.045, p = 0.074, n = 3)
    """
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        a, b = a.align(b)
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise CdkaError(
            f"paired takes one score per seed of either arm, in the same order: got {x.shape} and {y.shape}. Give two "
            "Series with the seeds as index where some are missing."
        )
    found = interval(x - y)
    return Paired(found.n, found.mean, found.sd, found.low, found.high, float(t_test(x - y)))


def reference_pairs(arms: Sequence[str], reference: str | None) -> list[tuple[str, str]]:
    """(arm, reference) for every other arm, or all pairs where there is no reference."""
    if reference is None:
        return [(b, a) for a, b in combinations(arms, 2)]
    return [(arm, reference) for arm in arms if arm != reference]


def compare_pairs(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """One row per pair (a, b): ``difference`` a - b over the seeds they share, its SD, 95 % interval, n and p.

    ``table`` holds scores by arm (rows) and seed (columns), NaN where there is none. The test is the paired t-test;
    where fewer than two seeds are shared but both have at least two of their own it is Welch's, and ``test`` says so.
    p is NaN, and test empty, where there is nothing to estimate a spread from. p is not adjusted: see ``verdicts``.
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
    looks: int = 1,
) -> pd.DataFrame:
    """``compare_pairs`` with ``p_holm`` over the whole family, ``verdict`` of a against b, and seeds still needed.

    Family-wise error at most 5 %: Holm's step-down over all pairs given. ``looks`` is the number of times that the runs
    are looked at altogether, decided beforehand: each look is held to 5 % / looks, so that one planned top-up
    (``looks=2``) keeps the whole at 5 %. For pairs that are not resolved, ``more_seeds`` is the number of further
    shared seeds that would resolve the observed difference with 80 % power at Bonferroni's level, ``more_seeds_low``
    and ``more_seeds_high`` the same at the ends of an 80 % interval of the effect; None where that is more than 1000 or
    cannot be estimated (``estimate_seeds=False`` leaves them out). The intervals are for each pair alone.
    """
    if looks < 1:
        raise CdkaError(f"looks must be at least 1: got {looks}. One planned top-up makes two looks.")
    out = compare_pairs(table, pairs)
    out["p_holm"] = holm(out["p"])
    resolved = out["p_holm"] < ALPHA / looks
    up = (out["difference"] > 0) == higher_is_better
    out["verdict"] = np.where(resolved, np.where(up, BETTER, WORSE), UNRESOLVED)
    if not estimate_seeds:
        return out
    level = 1 - ALPHA / looks / max(1, int(out["p"].notna().sum()))
    rows = zip(resolved, out["n"], out["difference"], out["sd"], strict=True)
    estimates = [(None,) * 3 if done else _more(int(n), difference, sd, level) for done, n, difference, sd in rows]
    for i, name in enumerate(("more_seeds", "more_seeds_low", "more_seeds_high")):
        out[name] = pd.array([estimate[i] for estimate in estimates], dtype="Int64")
    return out


def _more(n: int, difference: float, sd: float, level: float) -> tuple[int | None, ...]:
    """Further seeds: the estimate, and the two ends of its range."""
    totals = (seeds_needed(difference, sd, level), *seeds_range(difference, sd, n, level))
    return tuple(None if total is None else max(1, total - n) for total in totals)


def sentence(row: pd.Series, labels: Mapping[str, str] | None = None) -> str:
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
    lost = "".join(
        f"; {plural(row[f'lost_{side}'], 'run')} of {who} failed and do not count"
        for side, who in (("a", a), ("b", b))
        if pd.notna(row.get(f"lost_{side}")) and row[f"lost_{side}"] > 0
    )
    if row["verdict"] != UNRESOLVED:
        return f"{a} is {row['verdict']} than {b}:{size}{lost}"
    return f"{a} against {b}: not resolved,{size or ' no shared value'}; {needs(row)}{lost}"


def needs(row: pd.Series) -> str:
    """The differences that an unresolved pair does not exclude, and the seeds that would decide."""
    if pd.isna(row["p"]):
        return "needs at least two shared seeds"
    if pd.isna(row["ci_low"]):
        return "the seeds agree to the last digit, which may be chance"
    open_ = f"differences up to {max(abs(row['ci_low']), abs(row['ci_high'])):.2g} are not excluded"
    if pd.isna(row["more_seeds"]):
        return open_
    fewest, most = row.get("more_seeds_low"), row.get("more_seeds_high")
    upper = f"over {MAX_SEEDS:,}" if pd.isna(most) else f"{int(most)}"
    spread = "" if pd.isna(fewest) else f" ({int(fewest)} to {upper})"
    return f"{open_}; needs about {plural(row['more_seeds'], 'more seed')}{spread}"
