"""Does a metric rise or fall with r1, r2 or r, the other two held fixed? One slope per seed, tested across seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from cdka.formatting import plural, signed
from cdka.stats.intervals import LEVEL, band, holm, t_test

FACTORS = ("r1", "r2", "r")
COLUMNS = ["factor", "levels", "ladders", "n", "slope", "sd", "ci_low", "ci_high", "p", "gains"]
IMPROVES, DEGRADES, UNRESOLVED = "improves", "degrades", "not resolved"


def ladders(arms: pd.DataFrame, factor: str, settings: Mapping[str, Mapping]) -> list[list[str]]:
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


def slopes(table: pd.DataFrame, ladders: Sequence[Sequence[str]], levels: Mapping[str, int]) -> pd.Series:
    """Per seed, the change of the metric per doubling of the factor: least squares with an intercept per ladder.

    A seed counts a ladder only where it has every rung, so that no slope leans on a missing run; NaN where none is
    whole. ``levels`` maps arms to the factor's value.
    """
    values = _Rows(table)
    top = np.zeros(table.shape[1])
    bottom = np.zeros(table.shape[1])
    for ladder in ladders:
        x = np.log2([levels[arm] for arm in ladder])
        x = x - x.mean()
        rungs = values[ladder]
        whole = np.isfinite(rungs).all(axis=0)
        top += np.where(whole, x @ np.where(whole, rungs, 0.0), 0.0)
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
    settings: Mapping[str, Mapping],
    *,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """One row per factor that varies: slope per doubling with its 95 % t interval over seeds, p, p_holm, finding.

    Each seed gives one slope (``slopes``), so seeds, not runs, are what is counted: runs of one seed share their
    data order and are not independent. ``gains`` lists the mean change from each level to the next one tried.
    """
    rows = []
    for factor in FACTORS:
        found = ladders(arms, factor, settings)
        if not found:
            continue
        levels = {row.arm: int(getattr(row, factor)) for row in arms[arms["method"] == "cdka"].itertuples()}
        per_seed = slopes(table, found, levels)
        n, mean, sd, low, high = band(per_seed.to_numpy())
        rows.append(
            {
                "factor": factor,
                "levels": sorted({levels[arm] for ladder in found for arm in ladder}),
                "ladders": len(found),
                "n": int(n),
                "slope": float(mean),
                "sd": float(sd),
                "ci_low": float(low),
                "ci_high": float(high),
                "p": float(t_test(per_seed.to_numpy())),
                "gains": gains(table, found, levels),
            }
        )
    out = pd.DataFrame(
        rows, columns=["factor", "levels", "ladders", "n", "slope", "sd", "ci_low", "ci_high", "p", "gains"]
    )
    out["p_holm"] = holm(out["p"])
    up = (out["slope"] > 0) == higher_is_better
    out["finding"] = np.where(out["p_holm"] < 1 - LEVEL, np.where(up, IMPROVES, DEGRADES), UNRESOLVED)
    return out


def gains(table: pd.DataFrame, ladders: Sequence[Sequence[str]], levels: Mapping[str, int]) -> list[dict]:
    """The change of the metric over each rung, averaged over ladders within a seed, with its interval over seeds."""
    values = _Rows(table)
    rungs: dict[tuple[int, int], list[np.ndarray]] = {}
    for ladder in ladders:
        for below, above in pairwise(ladder):
            rungs.setdefault((levels[below], levels[above]), []).append(np.subtract(*values[[above, below]]))
    out = []
    for (low_level, high_level), changes in sorted(rungs.items()):
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
    """A trend in words: what happens to the metric as the factor doubles."""
    factor, seeds = row["factor"], plural(row["n"], "seed")
    if row["n"] == 0:
        return f"No trend over {factor} yet: no seed has finished every level."
    if pd.isna(row["p"]):
        return f"No trend over {factor} yet: one seed has no spread to judge by, two are needed."
    ends = f"{signed(row['ci_low'])} to {signed(row['ci_high'])}"
    levels = ", ".join(map(str, row["levels"]))
    size = f"{signed(row['slope'])} per doubling (95 % interval {ends}, {seeds}, levels {levels})"
    if row["finding"] == UNRESOLVED:
        return f"No resolved trend over {factor} in {header}: {size}."
    return f"A larger {factor} {row['finding']} {header}: {size}."
