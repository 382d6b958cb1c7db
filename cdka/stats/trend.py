"""The slope of a metric over a factor that doubles, one per seed, tested across seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from cdka.errors import CdkaError
from cdka.formatting import p_value, plural, signed
from cdka.stats.intervals import LEVEL, band, t_test
from cdka.stats.multiple_comparisons import holm
from cdka.stats.power import seeds_needed

FACTORS = ("r1", "r2", "r")
IMPROVES, DEGRADES, UNRESOLVED = "improves", "degrades", "not resolved"
_MEASURED = ["n", "slope", "sd", "ci_low", "ci_high", "p"]
_COLUMNS = ["factor", "levels", "series", *_MEASURED, "gains", "slopes", "interaction_p", "cost_ratio"]


@dataclass(frozen=True)
class Trend:
    """The change of a score per doubling of a factor: mean over ``n`` seeds, SD, 95 % interval and p."""

    n: int
    slope: float
    sd: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        if not np.isfinite(self.low):
            return f"{self.slope:+.3f} per doubling (no interval, n = {self.n})"
        ends = f"{self.low:+.3f} to {self.high:+.3f}"
        return f"{self.slope:+.3f} per doubling (95 % interval {ends}, {p_value(self.p)}, n = {self.n})"


def trend(levels: Sequence[float] | np.ndarray, scores: np.ndarray | pd.DataFrame) -> Trend:
    """The slope of ``scores`` (levels, seeds) over log2 of ``levels``, least squares in each seed, t over seeds.

    Seeds are what is counted, not runs: the runs of a seed share their data order. A seed counts where it has every
    level. Raises CdkaError unless there is a row per level, at least two levels, all positive.

    >>> print(trend([1, 2, 4, 8], [[0.83, 0.84], [0.79, 0.78], [0.75, 0.76], [0.70, 0.69]]))
    -0.045 per doubling (95 % interval -0.070 to -0.020, p = 0.028, n = 2)
    """
    x, values = np.asarray(levels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or x.shape != values.shape[:1] or len(x) < 2 or (x <= 0).any() or np.ptp(x) == 0:
        raise CdkaError(
            f"trend takes two or more different positive levels and a row of scores for each: got levels {x.tolist()} "
            f"and scores of shape {values.shape}."
        )
    x = np.log2(x)
    x = x - x.mean()
    per_seed = x @ values / (x @ x)
    n, mean, sd, low, high = (value.item() for value in band(per_seed))
    return Trend(n, mean, sd, low, high, float(t_test(per_seed)))


def find_series(arms: pd.DataFrame, factor: str, settings: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Groups of at least two arms that differ in ``factor`` only, each in ascending order of it.

    ``settings`` maps arms to what they were asked to do (``arms.settings``). Only method cdka has factors.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    others = [name for name in FACTORS if name != factor]
    for row in arms[arms["method"] == "cdka"].itertuples():
        rest = {k: v for k, v in settings[row.arm].items() if k not in ("components", *FACTORS)}
        held = repr(sorted(rest.items(), key=lambda item: item[0])) + str([int(getattr(row, n)) for n in others])
        groups.setdefault(held, []).append((int(getattr(row, factor)), row.arm))
    return [[arm for _, arm in sorted(group)] for group in groups.values() if len({v for v, _ in group}) > 1]


def slopes(table: pd.DataFrame, series: Sequence[Sequence[Any]], levels: Mapping[Any, int]) -> pd.Series:
    """Per seed, the change of the metric per doubling of the factor: least squares with an intercept per series.

    A seed counts a series only where it has every level, so that no slope leans on a missing run; NaN where none is
    whole. ``levels`` maps arms to the factor's value.
    """
    values = _Rows(table)
    top = np.zeros(table.shape[1])
    bottom = np.zeros(table.shape[1])
    for arms in series:
        x = np.log2([levels[arm] for arm in arms])
        x = x - x.mean()
        scores = values[arms]
        whole = np.isfinite(scores).all(axis=0)
        top += np.where(whole, x @ np.where(whole, scores, 0.0), 0.0)
        bottom += np.where(whole, x @ x, 0.0)
    return pd.Series(top / np.where(bottom > 0, bottom, np.nan), index=table.columns)


class _Rows:
    """Rows of a seed table by arm, as arrays."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._values = table.to_numpy(dtype=float)
        self._where = {arm: i for i, arm in enumerate(table.index)}

    def __getitem__(self, arms: Sequence[str]) -> np.ndarray:
        return self._values[[self._where[arm] for arm in arms]]


def trends(
    arms: pd.DataFrame,
    table: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    *,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """One row per factor that varies: slope per doubling with its 95 % t interval over seeds, p, p_holm, finding.

    Each seed gives one slope (``slopes``), so seeds, not runs, are what is counted: runs of one seed share their
    data order and are not independent. ``gains`` lists the mean change from each level to the next one tried;
    ``slopes`` the slope of each series alone, with what it holds fixed; ``interaction_p`` is the p that the slopes of
    the series are alike (``interaction``).
    """
    rows = []
    for factor in FACTORS:
        found = find_series(arms, factor, settings)
        if not found:
            continue
        levels = {row.arm: int(getattr(row, factor)) for row in arms[arms["method"] == "cdka"].itertuples()}
        per_seed = slopes(table, found, levels)
        by_series = np.array([slopes(table, [one], levels) for one in found])
        n, mean, sd, low, high = band(per_seed.to_numpy())
        rows.append(
            {
                "factor": factor,
                "levels": sorted({levels[arm] for one in found for arm in one}),
                "series": len(found),
                "n": int(n),
                "slope": float(mean),
                "sd": float(sd),
                "ci_low": float(low),
                "ci_high": float(high),
                "p": float(t_test(per_seed.to_numpy())),
                "gains": gains(table, found, levels),
                "slopes": _of_each(arms, found, factor, by_series),
                "interaction_p": interaction(by_series),
                "cost_ratio": _cost_ratio(arms, found, levels),
            }
        )
    out = pd.DataFrame(rows, columns=_COLUMNS)
    out["p_holm"] = holm(out["p"])
    up = (out["slope"] > 0) == higher_is_better
    out["finding"] = np.where(out["p_holm"] < 1 - LEVEL, np.where(up, IMPROVES, DEGRADES), UNRESOLVED)
    return out


def _of_each(arms: pd.DataFrame, series: Sequence[Sequence[str]], factor: str, by_series: np.ndarray) -> list[dict]:
    """The slope of each series with its interval, and the values of the two factors that it holds fixed."""
    rows = arms.drop_duplicates("arm").set_index("arm")
    others = [name for name in FACTORS if name != factor]
    out = []
    for one, values in zip(series, by_series, strict=True):
        n, mean, _, low, high = band(values)
        held = {name: int(rows.loc[one[0], name]) for name in others}
        out.append({**held, "n": int(n), "slope": float(mean), "ci_low": float(low), "ci_high": float(high)})
    return out


def interaction(by_series: np.ndarray) -> float:
    """The p that the slopes of several series are alike, from their slopes (series, seeds); NaN below two of either.

    The F test of the series in a layout of series by seeds, over the seeds that have every series.
    """
    values = by_series[:, np.isfinite(by_series).all(axis=0)]
    count, seeds = values.shape
    if count < 2 or seeds < 2:
        return float("nan")
    means = values.mean(axis=1, keepdims=True)
    residual = values - means - values.mean(axis=0) + values.mean()
    freedom = count - 1, (count - 1) * (seeds - 1)
    between = seeds * np.sum((means - values.mean()) ** 2) / freedom[0]
    within = np.sum(residual**2) / freedom[1]
    if within <= 0:
        return float("nan")
    return float(special.fdtrc(*freedom, between / within))


def _cost_ratio(arms: pd.DataFrame, series: Sequence[Sequence[Any]], levels: Mapping[Any, int]) -> float:
    """The factor by which parameters grow per doubling along these series (geometric mean); NaN where not known."""
    if "num_params" not in arms:
        return float("nan")
    cost = pd.to_numeric(arms.set_index("arm")["num_params"], errors="coerce").to_dict()
    steps = [
        np.log2(cost[above] / cost[below]) / np.log2(levels[above] / levels[below])
        for one in series
        for below, above in pairwise(one)
        if pd.notna(cost[above]) and pd.notna(cost[below])
    ]
    return float(2 ** np.mean(steps)) if steps else float("nan")


def gains(table: pd.DataFrame, series: Sequence[Sequence[Any]], levels: Mapping[Any, int]) -> list[dict]:
    """The change of the metric over each step from level to level, averaged over series within a seed, with its
    interval over seeds.
    """
    values = _Rows(table)
    steps: dict[tuple[int, int], list[np.ndarray]] = {}
    for arms in series:
        for below, above in pairwise(arms):
            steps.setdefault((levels[below], levels[above]), []).append(np.subtract(*values[[above, below]]))
    out = []
    for (low_level, high_level), changes in sorted(steps.items()):
        n, mean, _, low, high = band(np.mean(changes, axis=0))
        out.append(
            {
                "from": low_level,
                "to": high_level,
                "gain": float(mean),
                "ci_low": float(low),
                "ci_high": float(high),
                "n": int(n),
            }
        )
    return out


def sentence(row: pd.Series, header: str) -> str:
    """A trend in words: the change of the metric as the factor doubles, and whether the series agree about it."""
    factor, seeds = row["factor"], plural(row["n"], "seed")
    if row["n"] == 0:
        return f"No trend over {factor} yet: no seed has finished every level."
    if pd.isna(row["p"]):
        return f"No trend over {factor} yet: one seed has no spread to judge by, two are needed."
    levels = ", ".join(map(str, row["levels"]))
    ends = "" if pd.isna(row["ci_low"]) else f"95 % interval {signed(row['ci_low'])} to {signed(row['ci_high'])}, "
    size = f"{signed(row['slope'])} per doubling ({ends}{seeds}, levels {levels})"
    size, apart = size + _parameters(row), _apart(row)
    if row["finding"] != UNRESOLVED:
        return f"A larger {factor} {row['finding']} {header}: {size}{apart}."
    if row["ci_low"] > 0 or row["ci_high"] < 0:
        return (
            f"{header[:1].upper()}{header[1:]} changes with {factor} by {size}: clear alone, but not after Holm's "
            f"correction for all trends of this comparison ({p_value(row['p_holm'])}){_more_seeds(row)}{apart}."
        )
    return f"No resolved trend over {factor} in {header}: {size}{_more_seeds(row)}{apart}."


def _parameters(row: pd.Series) -> str:
    """The growth of the parameters along the trend, where it is more than a tenth: then size may explain it."""
    ratio = row.get("cost_ratio", float("nan"))
    return f", while each doubling multiplies the parameters by {ratio:.2g}" if ratio > 1.1 or ratio < 0.9 else ""


def _more_seeds(row: pd.Series) -> str:
    """The seeds that would settle the observed slope, at Bonferroni's level for as many trends as were tested."""
    tests = max(1.0, row["p_holm"] / row["p"]) if row["p"] > 0 else 1.0
    needed = seeds_needed(row["slope"], row["sd"], level=1 - (1 - LEVEL) / tests)
    if needed is None or needed <= row["n"]:
        return ""
    return f"; about {plural(needed - row['n'], 'more seed')} would settle it"


def _apart(row: pd.Series) -> str:
    """The slopes of two series, else the least and the greatest, where they differ by more than seeds explain (5 %, not
    adjusted)."""
    p = row.get("interaction_p")
    if pd.isna(p) or p >= 1 - LEVEL:
        return ""
    others = [name for name in FACTORS if name != row["factor"]]
    slopes = sorted(row["slopes"], key=lambda one: one["slope"])
    ends = [f"{signed(one['slope'])} at " + " and ".join(f"{name} {one[name]}" for name in others) for one in slopes]
    each = ", ".join(ends) if len(ends) < 3 else f"from {ends[0]} to {ends[-1]}"
    return f". Not the same everywhere (interaction {p_value(p)}): {each}"
