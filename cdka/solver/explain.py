"""Reasons for an option: two sentences made from its numbers."""

from __future__ import annotations

from cdka.formatting import percent, times
from cdka.solver.option import Option
from cdka.solver.search import Solution

SAME = 0.02
"""Alignments closer than this, as a share, are told as equal."""


def why_this(option: Option, solution: Solution) -> str:
    """Two sentences: what the option costs and gives, and how it stands beside LoRA at the same budget."""
    spends = (
        f"spends {percent(option.budget_used)} of the budget"
        if option.budget_used <= 1
        else f"costs {times(option.budget_used)} the budget"
    )
    first = (
        f"{option.components} {spends} ({option.num_params:,} of {solution.budget_params:,} parameters); its first "
        f"step is expected to align {option.alignment:.3f} with full fine-tuning's, {_standing(option, solution)}."
    )
    return f"{first} {_beside_lora(option, solution)}"


def _standing(option: Option, solution: Solution) -> str:
    best = solution.presets()["alignment"]
    share = option.alignment / best.alignment
    if option.budget_used > 1:
        return f"where the best that fits, {best.components}, reaches {best.alignment:.3f}"
    if share >= 1:
        return "the best that fits"
    return f"{100 * share:.0f} % of the best that fits ({best.alignment:.3f} with {best.components})"


def _beside_lora(option: Option, solution: Solution) -> str:
    lora, paper = solution.preset("lora"), solution.preset("paper")
    work = f"{percent(option.flops_overhead)} more arithmetic per token than the base model"
    if option.is_lora:
        itself = f"It is LoRA of rank {option.r} with rsLoRA scaling, at {work}"
        return f"{itself}." if paper is None else f"{itself}; {_paper_instead(option, paper)}."
    if lora is None:
        return f"LoRA of rank 1 does not fit this budget, and this can reach rank {option.rank_bound:,} for {work}."
    return (
        f"Against LoRA of rank {lora.r}, the most that this budget buys, it {_aligns(option, lora)} and "
        f"{_ranks(option, lora)}, for {work} (LoRA: {percent(lora.flops_overhead)})."
    )


def _paper_instead(option: Option, paper: Option) -> str:
    """The result of the paper's r1 = 2, r2 = 8 instead of this LoRA."""
    ratio = paper.alignment / option.alignment
    how = "as well" if abs(ratio - 1) < SAME else f"{times(ratio)} as well" if ratio > 1 else "less well"
    return (
        f"the paper's {paper.components} would align {how} ({paper.alignment:.3f}) and could reach rank "
        f"{paper.rank_bound:,} instead of {option.rank_bound:,} with {paper.num_params:,} parameters"
    )


def _aligns(option: Option, lora: Option) -> str:
    ratio = option.alignment / lora.alignment
    if abs(ratio - 1) < SAME:
        return f"aligns as well ({lora.alignment:.3f})"
    if ratio > 1:
        return f"aligns {times(ratio)} as well (LoRA: {lora.alignment:.3f})"
    return f"aligns less well (LoRA: {lora.alignment:.3f})"


def _ranks(option: Option, lora: Option) -> str:
    if option.rank_bound == lora.rank_bound:
        return "can reach the same rank"
    only = "" if option.rank_bound > lora.rank_bound else "only "
    return f"can reach {only}rank {option.rank_bound:,} instead of {lora.rank_bound:,}"
