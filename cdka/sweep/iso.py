"""CDKA options that cost about the same: the ones that use a budget, spread over what alignment it can buy. (ours)"""

from __future__ import annotations

from cdka.errors import CdkaError
from cdka.models.shapes import ModelShapes
from cdka.models.targets import select
from cdka.solver import Option, solve

NEAR = 0.9
"""Options that use at least this share of a budget count as equal to it."""


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
