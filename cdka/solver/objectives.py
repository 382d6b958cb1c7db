"""Objectives of an option, their weights, and the options that no other beats."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cdka.errors import CdkaError, unknown
from cdka.solver.feasible import Columns


@dataclass(frozen=True)
class Objective:
    """One measure of an option: the column it reads and whether more (+1) or less (-1) is better."""

    name: str
    column: str
    sign: int
    meaning: str


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("alignment", "alignment", +1, "how closely the first step follows full fine-tuning's"),
        Objective("rank", "rank_bound", +1, "how rich delta W can become by the end of training"),
        Objective("components", "r", +1, "how many independent components share the budget"),
        Objective("flops", "flops_per_token", -1, "extra arithmetic on every token"),
        Objective("memory", "num_params", -1, "adapter, gradients and optimizer state, proportional to parameters"),
    )
}
PARETO = ("memory", "alignment", "rank")
"""The objectives behind the Pareto mark: fewest parameters, best alignment, highest rank."""


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as floats. Raises CdkaError for unknown names, negative or non-finite values, or all zero."""
    checked = {}
    for name, weight in weights.items():
        if name not in OBJECTIVES:
            raise unknown("objective", str(name), OBJECTIVES)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise CdkaError(f"the weight of {name!r} must be a number of at least 0: got {weight!r}. Example: rank=1.")
        checked[name] = float(weight)
    if not any(checked.values()):
        raise CdkaError(f"at least one objective needs a weight above 0: got {dict(weights)}. Example: alignment=1.")
    return checked


def parse_weights(text: str) -> dict[str, float]:
    """Weights from ``"alignment=2,rank=1"``."""
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        weights = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise CdkaError(f"weights are written name=number: got {text!r}. Example: alignment=2,rank=1.") from None
    return check_weights(weights)


def scores(columns: Columns, weights: Mapping[str, float]) -> np.ndarray:
    """Weighted mean of the objectives, each brought to 0 (worst option) ... 1 (best option) on a log scale."""
    total = np.zeros(len(columns))
    for name, weight in check_weights(weights).items():
        objective = OBJECTIVES[name]
        values = np.log(np.asarray(getattr(columns, objective.column), dtype=float)) * objective.sign
        span = values.max() - values.min()
        total += weight * ((values - values.min()) / span if span > 0 else np.ones(len(values)))
    return total / sum(weights.values())


def pareto_mask(columns: Columns) -> np.ndarray:
    """Mask of the options that no other beats in PARETO (as good in all three, better in one); equals are all kept."""
    cost, alignment, rank = columns.num_params, columns.alignment, columns.rank_bound
    if not len(columns):
        return np.zeros(0, dtype=bool)
    order = np.lexsort((-rank, -alignment, cost))  # cheapest first, then best aligned, then highest rank
    cost, alignment, rank = cost[order], alignment[order], rank[order]
    new = np.r_[True, (np.diff(cost) != 0) | (np.diff(alignment) != 0) | (np.diff(rank) != 0)]
    alignments, ranks = alignment[new], rank[new]
    candidates = np.flatnonzero(~_clearly_beaten(alignments, ranks))
    unbeaten = np.zeros(len(alignments), dtype=bool)
    unbeaten[candidates[_staircase(alignments[candidates], ranks[candidates])]] = True
    kept = np.empty(len(order), dtype=bool)
    kept[order] = unbeaten[np.cumsum(new) - 1]
    return kept


def _clearly_beaten(alignment: np.ndarray, rank: np.ndarray, thresholds: int = 16) -> np.ndarray:
    """Points (cheapest first, all different) beaten by one of at least some round rank: most of them, quickly."""
    beaten = np.zeros(len(rank), dtype=bool)
    for least in np.unique(np.quantile(rank, np.linspace(0, 1, thresholds), method="nearest")):
        before = np.maximum.accumulate(np.where(rank >= least, alignment, -np.inf))[:-1]
        beaten[1:] |= (rank[1:] <= least) & (before >= alignment[1:])
    return beaten


def _staircase(alignments: np.ndarray, ranks: np.ndarray) -> list[int]:
    """Indices of the points, cheapest first, that none before beats: alignment falls along the stairs, rank rises."""
    kept: list[int] = []
    stair: list[float] = []  # alignments negated, rising
    heights: list[int] = []
    for index, (alignment, rank) in enumerate(zip((-alignments).tolist(), ranks.tolist(), strict=True)):
        position = bisect_right(stair, alignment)
        if position and heights[position - 1] >= rank:
            continue
        kept.append(index)
        start = position - 1 if position and stair[position - 1] == alignment else position
        end = position
        while end < len(stair) and heights[end] <= rank:
            end += 1
        stair[start:end], heights[start:end] = [alignment], [rank]
    return kept


def default_order(columns: Columns) -> np.ndarray:
    """Row indices, best first: by alignment; of options that align equally, those with least arithmetic first.

    What arithmetic costs, memory costs too: both grow with r r1 r2 and with the inputs that an adapter keeps.
    """
    return np.lexsort((columns.num_params, -columns.rank_bound, columns.flops_per_token, -columns.alignment))
