"""Arms of about equal cost: baselines (LoRA, LoKr, DoRA) and CDKA options matched to a number of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cdka.components import divisors
from cdka.cost.adapter import count_params, lokr_factors
from cdka.errors import CdkaError, unknown
from cdka.models.shapes import ModelShapes
from cdka.models.targets import select
from cdka.runs.resolve import ResolvedRun
from cdka.solver import Option, solve

BASELINES = ("lora", "lora-plain", "lokr", "dora", "full")
"""``lora`` scales like rsLoRA (alpha / sqrt(rank)), ``lora-plain`` by alpha / rank; the others are PEFT's own."""
EACH = "each"
"""The budget that gives every price among the arms a baseline of its own."""
NEAR = 0.9
"""Options that use at least this share of a budget count as equal to it."""


@dataclass(frozen=True)
class Matched:
    """Settings whose parameter count is the nearest a method comes to ``budget``; ``mismatch`` is relative to it."""

    settings: dict[str, Any]
    num_params: int
    budget: int

    @property
    def mismatch(self) -> float:
        """(num_params - budget) / budget."""
        return self.num_params / self.budget - 1.0


def match(baseline: str, budget: int, base: ResolvedRun) -> Matched:
    """The settings of ``baseline`` nearest to ``budget`` parameters on the modules that ``base`` adapts.

    ``lora:4`` fixes the rank instead. Raises CdkaError for an unknown baseline or rank.
    """
    name, colon, rank_text = baseline.partition(":")
    if name not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    method = "lora" if name == "lora-plain" else name
    if method == "full":
        if colon:
            raise CdkaError(f"full fine-tuning takes no rank: got {baseline!r}. Write full.")
        return Matched({"method": "full"}, base.shapes.base_params, budget)
    if colon and not (rank_text.isdecimal() and int(rank_text) > 0):
        raise CdkaError(f"a baseline's rank must be a positive integer: got {baseline!r}. Example: {name}:8.")
    ranks = [int(rank_text)] if colon else None
    candidates = _candidates(method, ranks, budget, base)
    best = min(candidates, key=lambda pair: (abs(pair[1] - budget), pair[1]))
    settings = {"method": method, **best[0]}
    if name == "lora-plain":
        settings["scaling_rule"] = "r"
    return Matched(settings, best[1], budget)


def _candidates(
    method: str, ranks: list[int] | None, budget: int, base: ResolvedRun
) -> Iterable[tuple[dict[str, Any], int]]:
    """Settings of a method with their counts: the ranks around the budget and, for LoKr, every useful factor."""
    factors = [-1]
    if method == "lokr":
        largest = max(max(layer.linear.in_features, layer.linear.out_features) for layer in base.layers)
        factors += [d for d in divisors(largest) if 1 < d <= largest**0.5]
    for factor in factors:
        for rank in ranks or _ranks_around(method, factor, budget, base):
            extra = {} if factor == -1 else {"lokr_factor": factor}
            yield {"rank": rank, **extra}, _count(base, method, rank, factor)


def _count(base: ResolvedRun, method: str, rank: int, factor: int) -> int:
    return count_params(base.with_(method=method, components=None, component_pattern={}, rank=rank, lokr_factor=factor))


def _ranks_around(method: str, factor: int, budget: int, base: ResolvedRun) -> list[int]:
    """The ranks around the budget: counts are affine in the rank, for LoKr piece by piece.

    LoKr keeps a layer's large factor whole from half its longer side on, where its count no longer grows.
    """

    def count(rank: int) -> int:
        return _count(base, method, rank, factor)

    breaks = {1}
    if method == "lokr":
        for layer in base.layers:
            sides = (lokr_factors(size, factor)[1] for size in (layer.linear.out_features, layer.linear.in_features))
            breaks.add(max(1, -(-max(sides) // 2)))
    found = set(breaks)
    for start in breaks:
        per_rank = count(start + 1) - count(start)
        if per_rank > 0:
            rank = start + (budget - count(start)) // per_rank
            found |= {max(1, rank), max(1, rank + 1)}
    return sorted(found)


def iso_options(shapes: ModelShapes, target_modules: str | tuple[str, ...], limit: int, count: int) -> list[Option]:
    """``count`` options other than LoRA's that use at most ``limit`` parameters and nearly all of them.

    Best aligned first. They spread evenly over the alignments that the budget can buy; of options that align equally,
    the one of highest rank bound comes first. Fewer where there are fewer; where none comes near the budget, those
    below it. Raises CdkaError where nothing fits.
    """
    options = [o for o in solve(select(shapes, target_modules), limit) if (o.r1, o.r2) != (1, 1)]
    near = [o for o in options if o.num_params >= NEAR * limit] or options
    if not near:
        raise CdkaError(f"no CDKA option fits the budget: got {limit:,} parameters. Give a larger one.")
    levels = {round(o.alignment, 6): o for o in sorted(near, key=lambda o: (o.rank_bound, o.num_params, -o.r1))}
    ranked = [levels[level] for level in sorted(levels, reverse=True)]
    best = [ranked[i] for i in _evenly(len(ranked), count)]
    others = sorted((o for o in near if o not in best), key=_order)
    return sorted([*best, *others[: count - len(best)]], key=_order)


def _order(option: Option) -> tuple[float, ...]:
    return -option.alignment, -option.rank_bound, option.r1, option.r2, option.r


def _evenly(length: int, count: int) -> list[int]:
    """At most ``count`` of ``length`` positions, evenly, the first and (from two on) the last among them."""
    if count == 1 or length <= count:
        return list(range(min(length, count)))
    return sorted({round(i * (length - 1) / (count - 1)) for i in range(count)})
