"""The option to take under a budget: one rule, the same in Python, on the command line and in the Studio. (ours)

The first step decides what a budget buys, so only options count whose predicted alignment is within 2 % of the best
that fits. LoRA is taken where it is among them, as the plainest. Otherwise the leanest of them sets the price: of those
with at most twice its arithmetic the one with the highest rank bound, then the one with least arithmetic. r1 = 1 costs
least at any r2/r1, and each doubling of r1 and r2 doubles the arithmetic and quadruples the rank, so the rule ends near
the paper's r1 = 2, r2 = 8.

Where modules may be left out or get the nearest components, the options that divide every module still set both the
alignment and the price to meet: an option with components of its own for some modules is taken where it is as lean and
has more rank, one that leaves a module out never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cdka.cost.memory import TOLERANCE
from cdka.errors import CdkaError
from cdka.formatting import count, percent, size
from cdka.machine import Device
from cdka.paths import assets_dir
from cdka.solver.budget import Budget
from cdka.solver.feasible import divide_all
from cdka.solver.option import Option
from cdka.solver.resources import Setting, fitting_rows, usual_setting
from cdka.solver.search import Model, Solution, explore

NEAR = 0.98
"""Alignments of at least this share of the best count as equal to it."""
LEAN = 2.0
"""As many times the arithmetic of the leanest may be spent on rank."""


@dataclass(frozen=True)
class Advice:
    """The option to take, why, and what to take for another wish.

    ``lora`` is LoRA of the highest rank that fits the budget, None where even rank 1 does not. ``memory_bytes`` is the
    estimated peak of training under ``setting``, None where the model's dimensions are not known; ``fits`` holds it
    against ``device``. ``others`` maps a goal to the option that serves it best, where that is another one.
    """

    option: Option
    why: str
    lora: Option | None
    lora_is_as_good: bool
    setting: Setting
    memory_bytes: int | None
    device: Device | None
    fits: bool | None
    others: Mapping[str, Option]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            **dict(zip(("r1", "r2", "r"), self.option.components.as_tuple(), strict=True)),
            "why": self.why,
            "num_params": self.option.num_params,
            "alignment": self.option.alignment,
            "rank_bound": self.option.rank_bound,
            "export_rank": self.option.export_rank,
            "memory_bytes": self.memory_bytes,
            "fits": self.fits,
            "device": None if self.device is None else self.device.name,
            "lora_is_as_good": self.lora_is_as_good,
            "record": record(),
            "others": {goal: list(option.components.as_tuple()) for goal, option in self.others.items()},
        }


def default(
    model: Model,
    budget: str | int | float | Budget,
    *,
    target_modules: str | Iterable[str] = "all-linear",
    setting: Setting | None = None,
    device: Device | None = None,
    max_export_rank: int | None = None,
    **settings: Any,
) -> Option:
    """The option to take under a budget; see ``advise``. Further ``settings`` and errors are those of ``explore``."""
    solution = explore(model, budget, target_modules=target_modules, **settings)
    return advise(solution, setting=setting, device=device, max_export_rank=max_export_rank).option


def advise(
    solution: Solution,
    *,
    setting: Setting | None = None,
    device: Device | None = None,
    max_export_rank: int | None = None,
) -> Advice:
    """The option of ``solution`` to take, by the rule of this module.

    With a ``device`` only options count whose training fits its free memory under ``setting`` (the model's usual batch
    where None); where none fits, the leanest is returned and says so. ``max_export_rank`` bounds the rank of the exact
    LoRA export. Raises CdkaError where no option has such a rank.
    """
    setting = setting or usual_setting(solution.shapes)
    columns, rows = solution.columns, np.arange(len(solution))
    if max_export_rank is not None:
        rows = rows[columns.export_rank[rows] <= max_export_rank]
        if not len(rows):
            raise CdkaError(
                f"no option under this budget exports as LoRA of rank {max_export_rank} or less. Raise the limit."
            )
    memory, able = fitting_rows(solution, setting, device)
    roomy = rows if able is None else rows[able[rows]]
    row = _choose(solution, roomy) if len(roomy) else int(rows[np.argmin(columns.flops_per_token[rows])])
    option, lora = solution.at([row])[0], solution.preset("lora")
    as_good = lora is not None and lora.alignment >= NEAR * option.alignment
    picked = Advice(
        option=option,
        why=_reason(solution, option, lora, roomy, as_good) if len(roomy) else "it needs the least memory of all.",
        lora=lora,
        lora_is_as_good=as_good,
        setting=setting,
        memory_bytes=None if memory is None else int(memory[row]),
        device=device,
        fits=None if able is None else bool(able[row]),
        others={},
    )
    return _with_others(picked, solution, roomy) if len(roomy) else picked


def _near(solution: Solution, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that align nearly as well as the best that divides every module, and those of them that do divide."""
    alignment, whole = solution.columns.alignment, _whole(solution, rows)
    measure = NEAR * alignment[whole].max()
    near = whole if solution.indivisible == "skip" else rows
    return near[alignment[near] >= measure], whole[alignment[whole] >= measure]


def _whole(solution: Solution, rows: np.ndarray) -> np.ndarray:
    """The rows that divide every module; all of them where none does."""
    whole = rows[divide_all(solution.linears, solution.columns)[rows]]
    return whole if len(whole) else rows


def _choose(solution: Solution, rows: np.ndarray) -> int:
    c = solution.columns
    near, whole = _near(solution, rows)
    plain = near[(c.r1[near] == 1) & (c.r2[near] == 1)]
    if len(plain):
        return int(plain[np.lexsort((-c.r[plain],))[0]])
    lean = near[c.flops_per_token[near] <= LEAN * c.flops_per_token[whole].min()]
    best = np.lexsort((c.num_params[lean], c.flops_per_token[lean], -c.rank_bound[lean]))
    return int(lean[best[0]])


def _with_others(advice: Advice, solution: Solution, rows: np.ndarray) -> Advice:
    """The same advice with the runner-up for each other goal."""
    c, (near, _) = solution.columns, _near(solution, rows)
    goals = {
        "least memory": near[np.lexsort((-c.rank_bound[near], c.flops_per_token[near]))[0]],
        "highest rank": near[np.lexsort((c.flops_per_token[near], -c.rank_bound[near]))[0]],
    }
    others = {goal: solution.at([int(row)])[0] for goal, row in goals.items()}
    if advice.lora is not None:
        others["plainest"] = advice.lora
    kept = {goal: other for goal, other in others.items() if other.components != advice.option.components}
    return Advice(**{**vars(advice), "others": kept})


def _reason(solution: Solution, option: Option, lora: Option | None, rows: np.ndarray, as_good: bool) -> str:
    best = float(solution.columns.alignment[_whole(solution, rows)].max())
    among = "that fits" if solution.indivisible == "error" else "that divides every module"
    if option.is_lora:
        beaten = (
            "no option under this budget aligns better" if option.alignment >= best else "none aligns clearly better"
        )
        return f"LoRA of rank {option.r} is as good here: {beaten} ({option.alignment:.3f}), and it is the plainest."
    lead = (
        f"its first step aligns as well as the best {among}"
        if option.alignment >= best
        else f"its first step aligns within {percent(1 - option.alignment / best)} of the best {among}"
    )
    beside = "" if lora is None else f"; LoRA {lora.r}: {lora.alignment:.3f}"
    return (
        f"{lead} ({option.alignment:.3f}{beside}), with {percent(option.flops_overhead)} more arithmetic than the base "
        f"model and rank up to {option.rank_bound:,}."
    )


def too_much(device: Device) -> str:
    """The words for a memory that a device is not sure to hold."""
    return f"± {percent(TOLERANCE)}, that is more than {device.name} has free"


@lru_cache(maxsize=1)
def record() -> str:
    """The record of such advice in the shipped study ``advice``, in one sentence; empty where no report ships."""
    path = assets_dir() / "studies" / "advice.json"
    if not path.is_file():
        return ""
    document = json.loads(path.read_text(encoding="utf-8"))
    comparisons = []
    for one in (finding for study in document["studies"] for finding in study["findings"]):
        against = one["measures"].partition(" over ")[2].partition(",")[0]
        ends = "" if one["ci_low"] is None else f" [{one['ci_low']:+.3f}, {one['ci_high']:+.3f}]"
        count_of = f", wins {one['better'][0]} of {one['better'][1]}" if one["better"] else ""
        comparisons.append(f"against {against} {one['effect']:+.3f}{ends}{count_of}")
    bases = document["studies"][0]["findings"][0]["n"]
    where = f"{document['task']}, {bases} base models of {document['model']}"
    return f"How such advice did in accuracy ({where}; 95 % intervals over bases): {'; '.join(comparisons)}."


def sentence(advice: Advice, solution: Solution) -> str:
    """The advice as one sentence, for a terminal."""
    option = advice.option
    memory = ""
    if advice.memory_bytes is not None:
        where = "" if advice.device is None or advice.fits else f", {too_much(advice.device)}"
        memory = f" Training takes about {size(advice.memory_bytes)} at {advice.setting}{where}."
    return (
        f"For {count(solution.budget_params)} parameters on {solution.shapes.name} take {option.components}: "
        f"{advice.why}{memory}"
    )
