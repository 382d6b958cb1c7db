"""Reasons for an option: three sentences made from its numbers.

The alignment here is that of the plain gradient step, from exact moments; the table's is the projection's, a little
more.
"""

from __future__ import annotations

from cdka.formatting import percent, times
from cdka.solver.option import Option
from cdka.solver.search import Solution
from cdka.theory.alignment import ADAM_SHARE, combine, expected_step_alignment

SAME = 0.02
"""Alignments closer than this, as a share, count as equal."""


def why_this(option: Option, solution: Solution) -> str:
    """The option's cost and gain, and its standing beside LoRA at the same budget, in three sentences."""
    spends = (
        f"spends {percent(option.budget_used)} of the budget"
        if option.budget_used <= 1
        else f"costs {times(option.budget_used)} the budget"
    )
    step = _step(option, solution)
    first = (
        f"{option.components} {spends} ({option.num_params:,} of {solution.budget_params:,} parameters); its first "
        f"plain gradient step is expected to align {step:.3f} with full fine-tuning's, {_standing(option, solution)}. "
        f"AdamW's first step moves by signs and aligns about {ADAM_SHARE * step:.3f}; the order of options stays."
    )
    return f"{first} {_beside_lora(option, solution)}"


def fitted_in_words(option: Option, solution: Solution) -> str:
    """The modules that get other components than the option's, or none, by ``indivisible``; "" where all get it."""
    own: dict[str, list[str]] = {}
    for linear, got in solution.fitted(option.components):
        if got != option.components:
            own.setdefault("left out" if got is None else f"gets {got}", []).append(linear.path)
    listed = "; ".join(f"{', '.join(paths)} {what}" for what, paths in own.items())
    return f"{option.components} does not divide every module: {listed}." if own else ""


def _step(option: Option, solution: Solution) -> float:
    """The expected cosine of the plain gradient step over all modules, every module weighing the same."""
    placed = [(linear, own) for linear, own in solution.fitted(option.components) for _ in range(linear.count)]
    return combine(0.0 if own is None else expected_step_alignment(own, s.in_features) for s, own in placed)


def _standing(option: Option, solution: Solution) -> str:
    best = solution.presets()["alignment"]
    reached, share = _step(best, solution), option.alignment / best.alignment
    if option.budget_used > 1:
        return f"where the best that fits, {best.components}, reaches {reached:.3f}"
    if share >= 1:
        return "the best that fits"
    return f"{100 * share:.0f} % of the best that fits ({reached:.3f} with {best.components})"


def _beside_lora(option: Option, solution: Solution) -> str:
    lora, paper = solution.preset("lora"), solution.preset("paper")
    work = f"{percent(option.flops_overhead)} more arithmetic per token than the base model"
    if option.is_lora:
        itself = f"It is LoRA of rank {option.r} with rsLoRA scaling, at {work}"
        return f"{itself}." if paper is None else f"{itself}; {_paper_instead(option, paper, solution)}."
    if lora is None:
        return f"LoRA of rank 1 does not fit this budget, and this can reach rank {option.rank_bound:,} for {work}."
    return (
        f"Against LoRA of rank {lora.r}, the most that this budget buys, it {_aligns(option, lora, solution)} and "
        f"{_ranks(option, lora)}, for {work} (LoRA: {percent(lora.flops_overhead)})."
    )


def _paper_instead(option: Option, paper: Option, solution: Solution) -> str:
    """The paper's r1 = 2, r2 = 8 beside this LoRA."""
    ratio = paper.alignment / option.alignment
    how = "as well" if abs(ratio - 1) < SAME else f"{times(ratio)} as well" if ratio > 1 else "less well"
    return (
        f"the paper's {paper.components} would align {how} ({_step(paper, solution):.3f}) and could reach rank "
        f"{paper.rank_bound:,} instead of {option.rank_bound:,} with {paper.num_params:,} parameters"
    )


def _aligns(option: Option, lora: Option, solution: Solution) -> str:
    ratio, reached = option.alignment / lora.alignment, _step(lora, solution)
    if abs(ratio - 1) < SAME:
        return f"aligns as well ({reached:.3f})"
    if ratio > 1:
        return f"aligns {times(ratio)} as well (LoRA: {reached:.3f})"
    return f"aligns less well (LoRA: {reached:.3f})"


def _ranks(option: Option, lora: Option) -> str:
    if option.rank_bound == lora.rank_bound:
        return "can reach the same rank"
    only = "" if option.rank_bound > lora.rank_bound else "only "
    return f"can reach {only}rank {option.rank_bound:,} instead of {lora.rank_bound:,}"
