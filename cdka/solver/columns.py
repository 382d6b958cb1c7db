"""Every feasible (r1, r2, r) under a budget as NumPy columns: the fast inner part of the solver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np

from cdka.components import divisors
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


def columns_for(linears: Sequence[LinearShape], r1: Iterable[int], r2: Iterable[int], r: Iterable[int]) -> Columns:
    """The numbers of given configurations (arrays of equal length that fit every layer)."""
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
    )


def enumerate_options(
    linears: Sequence[LinearShape],
    budget_params: int,
    r1_values: Sequence[int],
    r2_values: Sequence[int],
    max_r: int | None,
) -> Columns:
    """Every (r1, r2, r) from these values whose parameters fit the budget; possibly none."""
    pairs = np.array([(a, b) for a in r1_values for b in r2_values], dtype=np.int64).reshape(-1, 2)
    unit = columns_for(linears, pairs[:, 0], pairs[:, 1], np.ones(len(pairs), dtype=np.int64)).num_params
    most = budget_params // unit
    if max_r is not None:
        most = np.minimum(most, max_r)
    chosen = np.repeat(np.arange(len(pairs)), most)
    starts = np.repeat(np.cumsum(most) - most, most)
    r = np.arange(len(chosen)) - starts + 1
    return columns_for(linears, pairs[chosen, 0], pairs[chosen, 1], r)
