"""What makes an option good, how objectives are weighed, and which options no other beats."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cdka.errors import CdkaError, unknown
from cdka.solver.columns import Columns


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


def parse_weights(said: str) -> dict[str, float]:
    """Weights from ``"alignment=2,rank=1"``."""
    pairs = [part.partition("=") for part in said.split(",")]
    try:
        weights = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise CdkaError(f"weights are written name=number: got {said!r}. Example: alignment=2,rank=1.") from None
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
    """Which options no other beats in PARETO (at least as good in all three, better in one); equals are all kept."""
    cost = columns.num_params
    keys = np.stack([cost.astype(float), -columns.alignment, -columns.rank_bound.astype(float)], axis=1)
    points, place = np.unique(keys, axis=0, return_inverse=True)  # sorted: cheapest first, then best aligned
    kept = np.zeros(len(points), dtype=bool)
    # staircase of what is unbeaten so far: alignment falls (stored negated, rising) while rank rises
    aligned: list[float] = []
    ranks: list[float] = []
    for index, (_, minus_alignment, minus_rank) in enumerate(points.tolist()):
        position = bisect_left(aligned, minus_alignment)
        rank = -minus_rank
        beaten = (position > 0 and ranks[position - 1] >= rank) or (
            position < len(aligned) and aligned[position] == minus_alignment and ranks[position] >= rank
        )
        if beaten:
            continue
        kept[index] = True
        end = position
        while end < len(aligned) and ranks[end] <= rank:
            end += 1
        aligned[position:end], ranks[position:end] = [minus_alignment], [rank]
    return kept[place.ravel()]


def default_order(columns: Columns) -> np.ndarray:
    """Row indices, best first: by alignment, then rank, then number of components, then fewer parameters and FLOPs."""
    return np.lexsort(
        (columns.flops_per_token, columns.num_params, -columns.r, -columns.rank_bound, -columns.alignment)
    )
