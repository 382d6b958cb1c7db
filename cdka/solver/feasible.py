"""Every feasible (r1, r2, r) under a budget as NumPy columns; values that fit every module, and why others do not."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np

from cdka.components import Components, divisors, nearest_divisor
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape


@dataclass(frozen=True)
class Columns:
    """Options as arrays of equal length; see ``Option`` for what each number means."""

    r1: np.ndarray
    r2: np.ndarray
    r: np.ndarray
    num_params: np.ndarray
    rank_bound: np.ndarray
    alignment: np.ndarray
    flops_per_token: np.ndarray
    export_rank: np.ndarray

    def take(self, index: np.ndarray) -> Columns:
        """The rows at ``index``, in that order."""
        return Columns(**{name: column[index] for name, column in vars(self).items()})

    def __len__(self) -> int:
        return len(self.r)


def common_values(linears: Sequence[LinearShape]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The r1 and the r2 that fit every layer: the divisors of the common divisor of all out_features, in_features."""
    return (
        divisors(reduce(gcd, (linear.out_features for linear in linears))),
        divisors(reduce(gcd, (linear.in_features for linear in linears))),
    )


def possible_values(linears: Sequence[LinearShape], indivisible: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The r1 and the r2 worth trying: those that fit every layer, or with another rule those that fit any."""
    if indivisible == "error":
        return common_values(linears)
    outs, ins = {s.out_features for s in linears}, {s.in_features for s in linears}
    return tuple(sorted({d for n in outs for d in divisors(n)})), tuple(sorted({d for n in ins for d in divisors(n)}))


def divide_all(linears: Sequence[LinearShape], columns: Columns) -> np.ndarray:
    """A mask of the options whose r1 and r2 divide every layer."""
    r1_values, r2_values = common_values(linears)
    return np.isin(columns.r1, r1_values) & np.isin(columns.r2, r2_values)


def columns_for(
    linears: Sequence[LinearShape],
    r1: Iterable[int],
    r2: Iterable[int],
    r: Iterable[int],
    indivisible: str = "error",
) -> Columns:
    """The numbers of given configurations (arrays of equal length).

    ``error``: they fit every layer. Otherwise each layer gets what ``Components.fitted`` gives it; a layer that is
    left out adds no parameters and no FLOPs, and counts with rank 0 and alignment 0 in the means over all layers.
    """
    if indivisible != "error":
        return _fitted_columns(linears, r1, r2, r, indivisible)
    r1, r2, r = (np.asarray(list(v) if not isinstance(v, np.ndarray) else v, dtype=np.int64) for v in (r1, r2, r))
    kinds: Counter[tuple[int, int]] = Counter()
    for linear in linears:
        kinds[linear.out_features, linear.in_features] += linear.count
    modules = sum(kinds.values())
    outs = sum(out * count for (out, _), count in kinds.items())
    ins = sum(inner * count for (_, inner), count in kinds.items())
    by_in: Counter[int] = Counter()
    rank = np.zeros(len(r), dtype=np.int64)
    for (out, inner), count in kinds.items():
        by_in[inner] += count
        one = np.minimum(out // r1, r2) * np.minimum(r1, inner // r2)
        rank += count * np.minimum(min(out, inner), r * one)
    squares = sum(count * np.minimum(1.0, (r * r2) / (r1 * inner)) for inner, count in by_in.items())
    return Columns(
        r1=r1,
        r2=r2,
        r=r,
        num_params=r * (r2 * outs // r1 + r1 * ins // r2),
        rank_bound=rank // modules,
        alignment=np.sqrt(squares / modules),
        flops_per_token=2 * r * (ins * r1 + outs * r2),
        export_rank=np.minimum(r * r1 * r2, max(min(size) for size in kinds)),
    )


def _fitted_columns(
    linears: Sequence[LinearShape], r1: Iterable[int], r2: Iterable[int], r: Iterable[int], indivisible: str
) -> Columns:
    r1, r2, r = (np.fromiter(values, dtype=np.int64) for values in (r1, r2, r))
    kinds: Counter[tuple[int, int]] = Counter()
    for linear in linears:
        kinds[linear.out_features, linear.in_features] += linear.count
    modules = sum(kinds.values())
    params, rank, flops, export = (np.zeros(len(r), dtype=np.int64) for _ in range(4))
    squares = np.zeros(len(r))
    for (out, inner), count in kinds.items():
        own1, own2, times = fitted_values(out, inner, r1, r2, indivisible)
        times = times * count
        one = np.minimum(out // own1, own2) * np.minimum(own1, inner // own2)
        params += times * r * (own2 * (out // own1) + own1 * (inner // own2))
        rank += times * np.minimum(min(out, inner), r * one)
        flops += times * 2 * r * (inner * own1 + out * own2)
        squares += times * np.minimum(1.0, (r * own2) / (own1 * inner))
        export = np.maximum(export, np.where(times > 0, np.minimum(r * own1 * own2, min(out, inner)), 0))
    return Columns(r1, r2, r, params, rank // modules, np.sqrt(squares / modules), flops, export)


def fitted_values(
    out_features: int, in_features: int, r1: np.ndarray, r2: np.ndarray, indivisible: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The r1 and r2 that a layer of this size gets for each pair, and 1 where it is adapted, 0 where it is left out.

    ``Components.fitted`` of many at once.
    """
    if indivisible == "nearest":
        return _nearest(out_features, r1), _nearest(in_features, r2), np.ones(len(r1), dtype=np.int64)
    return r1, r2, ((out_features % r1 == 0) & (in_features % r2 == 0)).astype(np.int64)


def _nearest(size: int, values: np.ndarray) -> np.ndarray:
    """The divisor of ``size`` nearest to each value."""
    known, places = np.unique(values, return_inverse=True)
    return np.array([nearest_divisor(size, int(value)) for value in known], dtype=np.int64)[places]


def enumerate_options(
    linears: Sequence[LinearShape],
    budget_params: int,
    r1_values: Sequence[int],
    r2_values: Sequence[int],
    max_r: int | None,
    indivisible: str = "error",
) -> Columns:
    """Every (r1, r2, r) from these values that adapts a layer and whose parameters fit the budget; possibly none."""
    pairs = np.array([(a, b) for a in r1_values for b in r2_values], dtype=np.int64).reshape(-1, 2)
    ones = np.ones(len(pairs), dtype=np.int64)
    unit = columns_for(linears, pairs[:, 0], pairs[:, 1], ones, indivisible).num_params
    pairs, unit = pairs[unit > 0], unit[unit > 0]
    most = budget_params // unit
    if max_r is not None:
        most = np.minimum(most, max_r)
    chosen = np.repeat(np.arange(len(pairs)), most)
    starts = np.repeat(np.cumsum(most) - most, most)
    r = np.arange(len(chosen)) - starts + 1
    return columns_for(linears, pairs[chosen, 0], pairs[chosen, 1], r, indivisible)


@dataclass(frozen=True)
class Obstacle:
    """One value that does not fit: the dimension, every module that stands in its way, the values nearby that fit."""

    name: str
    value: int
    axis: str
    modules: tuple[tuple[str, int], ...]
    nearest: tuple[int, ...]

    def __str__(self) -> str:
        by_size: dict[int, list[str]] = {}
        for path, size in self.modules:
            by_size.setdefault(size, []).append(path.rsplit(".", 1)[-1])
        places = [f"{self.axis}={size} in {_listed(names)}" for size, names in by_size.items()]
        near = " or ".join(str(value) for value in self.nearest)
        return (
            f"{self.name} must divide {self.axis} of every module: got {self.name}={self.value}, {', '.join(places)}. "
            f"Nearest that fit: {near}."
        )


def _listed(names: Sequence[str]) -> str:
    """Names without repetition, at most three of them."""
    names = [repr(name) for name in dict.fromkeys(names)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def obstacles(linears: Sequence[LinearShape], components: Components) -> list[Obstacle]:
    """Reasons why these components do not fit the layers; empty where they fit."""
    r1_values, r2_values = common_values(linears)
    found = []
    for name, value, axis, fitting in (
        ("r1", components.r1, "out_features", r1_values),
        ("r2", components.r2, "in_features", r2_values),
    ):
        modules = tuple((s.path, getattr(s, axis)) for s in linears if getattr(s, axis) % value)
        if modules:
            found.append(Obstacle(name, value, axis, modules, nearest_values(fitting, value)))
    return found


def check_fits(linears: Sequence[LinearShape], components: Components) -> None:
    """Raises CdkaError naming every obstacle at once unless the components fit all layers."""
    found = obstacles(linears, components)
    if found:
        raise CdkaError(" ".join(str(obstacle) for obstacle in found))


def nearest_values(fitting: Sequence[int], value: int) -> tuple[int, ...]:
    """The fitting values just below and just above ``value``."""
    position = bisect_left(fitting, value)
    if position < len(fitting) and fitting[position] == value:
        return (value,)
    return tuple(fitting[max(0, position - 1) : position + 1])


def limiting_modules(linears: Sequence[LinearShape]) -> list[str]:
    """Sentences on modules that keep r1 or r2 from larger values; empty where every module allows the same.

    A module is named where leaving it out would let more values fit.
    """
    if len(linears) < 2:
        return []
    r1_values, r2_values = common_values(linears)
    sentences = []
    for linear in linears:
        others = [other for other in linears if other is not linear]
        wider_r1, wider_r2 = common_values(others)
        gains = [
            f"{name} to {values[-1]} ({axis} = {getattr(linear, axis):,}); without it {name} could be up to {wider[-1]}"
            for name, axis, wider, values in (
                ("r1", "out_features", wider_r1, r1_values),
                ("r2", "in_features", wider_r2, r2_values),
            )
            if len(wider) > len(values)
        ]
        if gains:
            sentences.append(f"{linear.path} limits {', and '.join(gains)}.")
    return sentences
