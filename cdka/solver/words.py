"""Why this option: two sentences made from its numbers."""

from __future__ import annotations

from cdka.solver.option import Option
from cdka.solver.search import Solution


def why_this(option: Option, solution: Solution) -> str:
    """Two sentences: what the option costs and gives, and how it stands beside LoRA at the same budget."""
    best = solution.preset("alignment")
    share = option.alignment / best.alignment
    standing = (
        "the best that fits this budget"
        if share >= 1
        else f"{share:.0%} of the best that fits ({best.alignment:.3f}, {best.components})"
    )
    first = (
        f"{option.components} spends {_percent(option.budget_used)} of the budget ({option.num_params:,} of "
        f"{solution.budget_params:,} parameters) for an expected first-step alignment of {option.alignment:.3f} with "
        f"full fine-tuning, {standing}, and a rank of up to {option.rank_bound}."
    )
    lora = solution.preset("lora")
    work = f"{_percent(option.flops_overhead)} more arithmetic per token than the base model"
    if option.is_lora:
        others = solution.preset("paper")
        if others is None:
            return f"{first} It is LoRA of rank {option.r} with rsLoRA scaling, and costs {work}."
        return (
            f"{first} It is LoRA of rank {option.r} with rsLoRA scaling, and costs {work}; the paper's "
            f"{others.components} would align {_times(others.alignment, option.alignment)} as well and reach rank "
            f"{others.rank_bound} with {others.num_params:,} parameters."
        )
    if lora is None:
        return f"{first} LoRA of rank 1 does not fit this budget; the price is {work}."
    return (
        f"{first} LoRA at this budget, {lora.components}, aligns {lora.alignment:.3f} and stays at rank "
        f"{lora.rank_bound}, so this is {_times(option.alignment, lora.alignment)} the alignment and "
        f"{_times(option.rank_bound, lora.rank_bound)} the rank for {work} (LoRA: {_percent(lora.flops_overhead)})."
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{100 * share:.2g}%"


def _times(value: float, other: float) -> str:
    ratio = value / other
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"
