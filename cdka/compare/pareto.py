"""The Pareto front under uncertainty: on it, off it, or not told by these seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cdka.compare.verdicts import BETTER, WORSE, verdicts

ON, OFF, AMBIGUOUS = "on", "off", "ambiguous"


def pareto(
    arms: pd.DataFrame, table: pd.DataFrame, cost: str = "num_params", *, higher_is_better: bool = True
) -> pd.Series:
    """``on``, ``off`` or ``ambiguous`` per arm (indexed by arm); None where value or cost is missing.

    Off: an arm that costs no more is resolvedly better. On: resolvedly better than every arm that costs no more
    (the cheapest arm is always on). Ambiguous: anything else; with one seed that is all but the cheapest. Resolved
    means Holm over all these comparisons at 5 %. ``cost`` is taken at its mean.
    """
    known = arms[arms["mean"].notna() & arms[cost].notna()].sort_values(cost, kind="stable")
    names, costs = known["arm"].to_list(), known[cost].to_numpy(dtype=float)
    pairs = [
        (names[i], names[j]) for i in range(len(names)) for j in range(len(names))
        if i != j and (costs[j] < costs[i] or (costs[j] == costs[i] and j < i))
    ]  # fmt: skip
    out = pd.Series([None] * len(arms), index=arms["arm"], dtype=object)
    if not names:
        return out
    found = verdicts(table, pairs, higher_is_better=higher_is_better, estimate_seeds=False)
    worse = {name: 0 for name in names}
    better = {name: 0 for name in names}
    cost_of = dict(zip(names, costs, strict=True))
    rivals = {name: int(np.sum(costs <= cost_of[name]) - 1) for name in names}
    for row in found.itertuples():
        worse[row.a] += row.verdict == WORSE
        better[row.a] += row.verdict == BETTER
        if cost_of[row.a] == cost_of[row.b]:  # equal cost: each is the other's rival
            worse[row.b] += row.verdict == BETTER
            better[row.b] += row.verdict == WORSE
    for name in names:
        out[name] = OFF if worse[name] else ON if better[name] == rivals[name] else AMBIGUOUS
    return out
