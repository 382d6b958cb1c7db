"""The Pareto front under uncertainty: on it, off it, or not told by these seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cdka.compare.intervals import holm
from cdka.compare.verdicts import ALPHA, compare_pairs

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
        (names[i], names[j]) for i in range(len(names)) for j in range(len(names))
        if i != j and (costs[j] < costs[i] or (costs[j] == costs[i] and j < i))
    ]  # fmt: skip
    out = pd.Series([None] * len(arms), index=arms["arm"], dtype=object)
    if not names:
        return out
    found = compare_pairs(table, pairs)
    up = (found["difference"] > 0) == higher_is_better
    # both directions of every pair, since arms of equal cost are each other's rivals
    forward = pd.DataFrame({"arm": found["a"], "rival": found["b"], "p": found["p"], "better": up})
    back = pd.DataFrame({"arm": found["b"], "rival": found["a"], "p": found["p"], "better": ~up})
    cost_of = dict(zip(names, costs, strict=True))
    equal = np.array([cost_of[a] == cost_of[b] for a, b in pairs], dtype=bool)
    against = dict(list(pd.concat([forward, back[equal]]).groupby("arm")))
    for name in names:
        rivals = against.get(name)
        out[name] = ON if rivals is None else _status(rivals)
    return out


def _status(rivals: pd.DataFrame) -> str:
    if ((holm(rivals["p"]) < ALPHA) & ~rivals["better"]).any():
        return OFF
    return ON if ((rivals["p"] < ALPHA) & rivals["better"]).all() else AMBIGUOUS
