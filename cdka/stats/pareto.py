"""The Pareto front under uncertainty: on it, off it, or not told by these seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cdka.stats.intervals import holm
from cdka.stats.paired import ALPHA, compare_pairs

ON, OFF, AMBIGUOUS = "on", "off", "ambiguous"


def pareto(
    arms: pd.DataFrame, table: pd.DataFrame, cost: str = "num_params", *, higher_is_better: bool = True
) -> pd.Series:
    """``on``, ``off`` or ``ambiguous`` per arm (indexed by arm); None where value or cost is missing.

    Off: an arm that costs no more is resolvedly better. On: resolvedly better than every arm that costs no more
    (the cheapest arm is always on). Ambiguous: anything else; with one seed that is all but the cheapest. Each arm's
    status is wrong in at most 5 % of cases: Holm over its rivals for off; for on, every one of them must be beaten at
    5 % (an intersection-union test, which needs no adjustment). ``cost`` is taken at its mean.
    """
    known = arms[arms["mean"].notna() & arms[cost].notna()].sort_values(cost, kind="stable")
    names, costs = known["arm"].to_list(), known[cost].to_numpy(dtype=float)
    pairs = [
        (names[i], names[j])
        for i in range(len(names))
        for j in range(len(names))
        if i != j and (costs[j] < costs[i] or (costs[j] == costs[i] and j < i))
    ]
    out = pd.Series([None] * len(arms), index=arms["arm"], dtype=object)
    if not names:
        return out
    found = compare_pairs(table, pairs)
    up = ((found["difference"] > 0) == higher_is_better).to_numpy()
    p = found["p"].to_numpy()
    against: dict[str, list[tuple[float, bool]]] = {name: [] for name in names}
    cost_of = dict(zip(names, costs, strict=True))
    for (a, b), p_of_pair, better in zip(pairs, p, up, strict=True):
        against[a].append((p_of_pair, better))
        if cost_of[a] == cost_of[b]:  # arms of equal cost are each other's rivals
            against[b].append((p_of_pair, not better))
    for name in names:
        out[name] = _status(np.array(against[name], dtype=float).reshape(-1, 2))
    return out


def _status(rivals: np.ndarray) -> str:
    """The status of an arm from (p, whether it is the better one) per rival; without a rival it is on the front."""
    p, better = rivals[:, 0], rivals[:, 1] > 0
    if ((holm(p) < ALPHA) & ~better).any():
        return OFF
    return ON if ((p < ALPHA) & better).all() else AMBIGUOUS
