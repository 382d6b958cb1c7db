"""The contest of chapter 6: the learner's design, the solver's, LoRA of the same budget; who wins. No drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.metrics import TEST_ACCURACY
from cdka.runs.resolve import spec_for
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT
from cdka.runs.store import Store
from cdka.solver import Option, Solution, evaluate, explore
from cdka.stats.mcnemar import mcnemar

MODEL, TASK = "digits-vit", "digits-flip"
STEPS, EVAL_EVERY = 100, 10
BUDGETS = ("lora:1", "lora:2", "lora:4")
SURE = 0.05
"""A winner is named where McNemar's exact test puts the chance of a fluke below this."""
TIE = "Too close to call"
NAMES = ("Mine", "The solver's", "LoRA")


@lru_cache(maxsize=8)
def solution(budget: str) -> Solution:
    """Everything that fits the budget."""
    return explore(MODEL, budget)


@dataclass(frozen=True)
class Arm:
    """One contestant: its name, its numbers before training, and the run that decides."""

    name: str
    option: Option
    spec: RunSpec


def arms(budget: str, c: Components, seed: int) -> tuple[Arm, Arm, Arm]:
    """The three contestants. Raises CdkaError where the design does not fit the model or costs more than the budget."""
    found = solution(budget)
    mine = evaluate(MODEL, c)
    if mine.num_params > found.budget_params:
        raise CdkaError(
            f"the design must cost at most {found.budget_params:,} parameters: got {mine.num_params:,} for {c}. "
            "Lower r, or bring r1 and r2 closer together."
        )
    lora = found.preset("lora")
    best = found.top(1)[0]
    rank = {"method": "lora", "rank": lora.r}
    return (
        Arm(NAMES[0], mine, _spec(seed, components=c)),
        Arm(NAMES[1], best, _spec(seed, components=best.components)),
        Arm(NAMES[2], lora, _spec(seed, **rank)),
    )


def _spec(seed: int, **method: Any) -> RunSpec:
    return spec_for(MODEL, TASK, steps=STEPS, eval_every=EVAL_EVERY, seed=seed, **method)


def winner(store: Store, runs: Mapping[str, Run | None]) -> str | None:
    """The name of the arm that beats the second best beyond a fluke, TIE where none does, None until all are kept."""
    if any(run is None or not run.status.is_kept() for run in runs.values()):
        return None
    first, second = ranked(runs)[:2]
    if runs[first].run_id == runs[second].run_id:
        return TIE  # the learner chose what the solver chose: one run serves both
    return first if duel(store, runs[first], runs[second]) < SURE else TIE


def ranked(runs: Mapping[str, Run]) -> list[str]:
    """Names by test accuracy, best first."""
    return sorted(runs, key=lambda name: -runs[name].metrics[TEST_ACCURACY])


def duel(store: Store, a: Run, b: Run) -> float:
    """The exact two-sided p that two runs err equally often on the test examples."""
    return mcnemar(store.predictions(a.run_id), store.predictions(b.run_id)).p


def tried(store: Store) -> Sequence[Run]:
    """Every kept run of this contest so far, whoever asked for it: same model, task, steps and recipe."""
    like = _spec(0).to_dict()
    free = {"method", "components", "rank", "seed"}
    return [
        run
        for run in store.runs(status=KEPT)
        if all(value == like[key] for key, value in run.spec.to_dict().items() if key not in free)
    ]


def whose(run: Run) -> str:
    """Who would enter the contest with this run: one of NAMES. What the solver picks under its budget is its own."""
    if run.spec.method == "lora":
        return NAMES[2]
    picks = {solution(budget).top(1)[0].components for budget in BUDGETS}
    return NAMES[1] if run.spec.components in picks else NAMES[0]
