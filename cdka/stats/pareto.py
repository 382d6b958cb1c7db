"""The Pareto front under uncertainty: on it, off it, or not decided by these seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cdka.stats.multiple_comparisons import holm
from cdka.stats.paired import ALPHA, compare_pairs

ON, OFF, AMBIGUOUS = "on", "off", "ambiguous"


def pareto(scores: pd.DataFrame, cost: Mapping[str, float] | pd.Series, *, higher_is_better: bool = True) -> pd.Series:
    """``on``, ``off`` or ``ambiguous`` per arm; None where an arm has no score or no cost.

    ``scores`` holds one row per arm and one column per seed; ``cost`` is one number per arm, less is better.
    Off: an arm that costs no more is better, and resolved so. On: better than every arm that costs no more, each
    resolved (the cheapest arm is always on). Ambiguous: anything else; with one seed that is all but the cheapest.
    *Each arm's* status is wrong in at most 5 % of cases, not the whole front's: Holm over its rivals for off; for on,
    every one of them must be beaten at 5 % (an intersection-union test, which needs no adjustment).

    >>> scores = pd.DataFrame(
    ...     [[0.80, 0.81, 0.79], [0.90, 0.91, 0.90], [0.85, 0.86, 0.84]], index=["small", "middle", "large"]
    ... )
    >>> pareto(scores, {"small": 1e4, "middle": 2e4, "large": 4e4}).to_dict()
    {'small': 'on', 'middle': 'on', 'large': 'off'}
    """
    price = pd.Series(dict(cost), dtype="Float64").astype(float).reindex(scores.index)  # a live run has no cost yet
    known = price[price.notna() & scores.notna().any(axis=1)].sort_values(kind="stable")
    names, costs = known.index.to_list(), known.to_numpy()
    pairs = [
        (names[i], names[j])
        for i in range(len(names))
        for j in range(len(names))
        if i != j and (costs[j] < costs[i] or (costs[j] == costs[i] and j < i))
    ]
    out = pd.Series([None] * len(scores), index=scores.index, dtype=object)
    if not names:
        return out
    found = compare_pairs(scores, pairs)
    up = ((found["difference"] > 0) == higher_is_better).to_numpy()
    p = found["p"].to_numpy()
    against: dict[str, list[tuple[float, bool]]] = {name: [] for name in names}
    for (a, b), p_of_pair, better in zip(pairs, p, up, strict=True):
        against[a].append((p_of_pair, better))
        if known[a] == known[b]:  # arms of equal cost are each other's rivals
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
