"""Component dimensions (r1, r2) and their number r: counts, bounds and scaling of one CDKA layer.

Everything here is arithmetic on shapes, free of torch. Notation follows the paper (arXiv 2602.01267):
``delta W = scaling * sum_{i=1..r} B_i (x) A_i`` with ``B_i`` of shape (out_features / r1, r2) and ``A_i`` of
shape (r1, in_features / r2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cdka.errors import CdkaError

SCALING_RULES = ("sqrt_r_r2", "sqrt_r", "r", "none")
"""Rules that turn alpha into the scaling factor; ``sqrt_r_r2`` is the paper's, the others are for comparison."""

INIT_WEIGHTS = ("kaiming", "random", "gradient")
"""``kaiming``: A Kaiming-uniform, B zero, so that delta W starts at zero (paper). ``random``: B is drawn as well,
for tests. ``gradient``: A along the leading directions of the loss's gradient, B zero (the published code
has such a start, too)."""


INDIVISIBLE = ("error", "skip", "nearest")
"""A layer that r1 or r2 does not divide is refused, left out, or given the nearest components that do."""


@lru_cache(maxsize=4096)
def divisors(n: int) -> tuple[int, ...]:
    """The divisors of ``n`` in ascending order."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return tuple(small + [n // d for d in reversed(small) if d * d != n])


def nearest_divisor(n: int, value: int) -> int:
    """The divisor of ``n`` nearest to ``value``, the smaller of two as near."""
    return min(divisors(n), key=lambda d: (abs(d - value), d))


def nearest_divisors(n: int, value: int) -> tuple[int, ...]:
    """The divisors of ``n`` just below and just above ``value`` (one where there is only one)."""
    below = [d for d in divisors(n) if d <= value]
    above = [d for d in divisors(n) if d >= value]
    return tuple(dict.fromkeys(below[-1:] + above[:1]))


def scaling(alpha: float, r2: int, r: int, rule: str = "sqrt_r_r2") -> float:
    """The factor in front of delta W. ``sqrt_r_r2`` is alpha / sqrt(r * r2) (paper, training stabilisation)."""
    if rule not in SCALING_RULES:
        raise CdkaError(f"scaling rule must be one of {', '.join(SCALING_RULES)}: got {rule!r}.")
    return alpha / {"sqrt_r_r2": math.sqrt(r * r2), "sqrt_r": math.sqrt(r), "r": r, "none": 1.0}[rule]


@dataclass(frozen=True, order=True)
class Components:
    """One configuration of a Kronecker adapter.

    ``r1`` divides out_features, ``r2`` divides in_features, ``r`` is the number of components (not a rank).
    ``(1, 1, r)`` is LoRA of rank r with rsLoRA scaling. Raises CdkaError unless all three are positive integers.

    >>> Components(2, 8, 4).num_params(out_features=4096, in_features=4096)
    69632
    """

    r1: int
    r2: int
    r: int

    def __post_init__(self) -> None:
        for name, value in (("r1", self.r1), ("r2", self.r2), ("r", self.r)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CdkaError(f"{name} must be a positive integer: got {value!r}. Example: r1=2, r2=8, r=4.")

    @classmethod
    def parse(cls, value: str | Iterable[int] | Components) -> Components:
        """Components from ``"2,8,4"``, from three integers, or from Components."""
        if isinstance(value, Components):
            return value
        try:
            parts = value.split(",") if isinstance(value, str) else list(value)
            numbers = [int(part) for part in parts]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 3:
            raise CdkaError(f"components must be three integers r1,r2,r: got {value!r}. Example: 2,8,4.")
        return cls(*numbers)

    def __str__(self) -> str:
        return f"{self.r1},{self.r2},{self.r}"

    def as_tuple(self) -> tuple[int, int, int]:
        """(r1, r2, r)."""
        return self.r1, self.r2, self.r

    def problems(self, out_features: int, in_features: int, where: str = "") -> list[str]:
        """Reasons why this configuration does not fit a layer, each with the nearest divisors; empty if it fits."""
        found = []
        place = f" in {where!r}" if where else ""
        for name, value, axis, size in (
            ("r1", self.r1, "out_features", out_features),
            ("r2", self.r2, "in_features", in_features),
        ):
            if size % value:
                near = " or ".join(str(d) for d in nearest_divisors(size, value))
                found.append(
                    f"{name} must divide {axis}: got {name}={value}, {axis}={size}{place}. Nearest divisors: {near}."
                )
        return found

    def check(self, out_features: int, in_features: int, where: str = "") -> None:
        """Raises CdkaError naming the dimension, the layer and the nearest divisors unless this fits the layer."""
        found = self.problems(out_features, in_features, where)
        if found:
            raise CdkaError(" ".join(found))

    def nearest(self, out_features: int, in_features: int) -> Components:
        """These components with r1 and r2 moved to the nearest divisors of the layer, the smaller of two as near."""
        return Components(nearest_divisor(out_features, self.r1), nearest_divisor(in_features, self.r2), self.r)

    def fitted(self, out_features: int, in_features: int, indivisible: str = "error") -> Components | None:
        """The components that a layer gets: these where they fit it, else by the rule ``indivisible``.

        ``error`` raises CdkaError, ``skip`` gives None, ``nearest`` gives the nearest that fit.
        """
        if indivisible not in INDIVISIBLE:
            raise CdkaError(f"indivisible must be one of {', '.join(INDIVISIBLE)}: got {indivisible!r}.")
        if indivisible != "error" and self.problems(out_features, in_features):
            return None if indivisible == "skip" else self.nearest(out_features, in_features)
        self.check(out_features, in_features)
        return self

    def shapes(self, out_features: int, in_features: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The shapes of A, (r, r1, in/r2), and of B, (r, out/r1, r2)."""
        self.check(out_features, in_features)
        return (self.r, self.r1, in_features // self.r2), (self.r, out_features // self.r1, self.r2)

    def num_params(self, out_features: int, in_features: int) -> int:
        """Trainable parameters on one layer: r * (r2 * out / r1 + r1 * in / r2)."""
        self.check(out_features, in_features)
        return self.r * (self.r2 * (out_features // self.r1) + self.r1 * (in_features // self.r2))

    def rank_bound(self, out_features: int, in_features: int) -> int:
        """The largest rank that delta W can have on one layer; in practice r * r1 * r2, and reached (ours)."""
        self.check(out_features, in_features)
        one = min(out_features // self.r1, self.r2) * min(self.r1, in_features // self.r2)
        return min(out_features, in_features, self.r * one)

    def alignment(self, in_features: int) -> float:
        """Expected cosine between the first step and full fine-tuning's: sqrt(r r2 / (r1 in)), at most 1 (ours)."""
        return min(1.0, math.sqrt(self.r * self.r2 / (self.r1 * in_features)))

    def scaling(self, alpha: float, rule: str = "sqrt_r_r2") -> float:
        """alpha / sqrt(r * r2), the paper's training stabilisation, unless another rule is named."""
        return scaling(alpha, self.r2, self.r, rule)

    def flops_per_token(self, out_features: int, in_features: int) -> int:
        """Extra forward FLOPs of the factored form on one token: 2 in r r1 + 2 out r r2 (ours)."""
        self.check(out_features, in_features)
        return 2 * self.r * (in_features * self.r1 + out_features * self.r2)


PAPER_DEFAULT = Components(2, 8, 4)
"""The paper's default configuration, used with alpha = 64."""
