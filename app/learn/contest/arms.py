"""The contest of chapter 6: the learner's design, its twin, LoRA at its own rate; by how much one wins. No drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.metrics import EVAL_ACCURACY, TEST_ACCURACY
from cdka.runs.resolve import spec_for
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT
from cdka.runs.store import Store
from cdka.solver import Option, Solution, evaluate, explore
from cdka.stats.intervals import Interval, interval

MODEL, TASK = "digits-vit", "digits-flip"
STEPS, EVAL_EVERY, NUM_SEEDS = 100, 10, 3
BUDGETS = ("lora:1", "lora:2", "lora:4")
LORA_RATES = (0.25, 0.5, 1.0)
"""LoRA's rates as multiples of the recipe's; the one with the best validation accuracy counts."""
MINE, TWIN, LORA = "Your design", "Its twin", "LoRA"
RIVALS = {"the twin": TWIN, "LoRA": LORA}
"""The rival on the button, and its name in the contest."""


@lru_cache(maxsize=8)
def solution(budget: str) -> Solution:
    """Everything that fits the budget."""
    return explore(MODEL, budget)


@dataclass(frozen=True)
class Arm:
    """One contestant: its name, its numbers before training, and its runs, one per learning rate and seed."""

    name: str
    option: Option
    specs: tuple[RunSpec, ...]


def seeds(question: int) -> tuple[int, ...]:
    """The seeds of a question: three for each, none of them in two."""
    return tuple(range(NUM_SEEDS * question, NUM_SEEDS * (question + 1)))


def contest(budget: str, c: Components, question: int = 0) -> tuple[Arm, ...]:
    """The contestants; a design with r1 = r2 has no twin. Raises CdkaError where the design does not fit the model or
    costs more than the budget."""
    found = solution(budget)
    mine = evaluate(MODEL, c)
    if mine.num_params > found.budget_params:
        raise CdkaError(
            f"the design must cost at most {found.budget_params:,} parameters: got {mine.num_params:,} for {c}. "
            "Lower r, or bring r1 and r2 closer together."
        )
    arms = [_arm(MINE, mine, question, components=c)]
    if c.r1 != c.r2:
        twin = evaluate(MODEL, Components(c.r2, c.r1, c.r))
        arms.append(_arm(TWIN, twin, question, components=twin.components))
    lora = found.preset("lora")  # (1, 1, r) is LoRA of rank r, and trains in the same pack as the others
    rate = _spec(0).lr
    specs = [
        _spec(seed, components=lora.components, lr=rate * factor) for factor in LORA_RATES for seed in seeds(question)
    ]
    return (*arms, Arm(LORA, lora, tuple(specs)))


def _arm(name: str, option: Option, question: int, **method: Any) -> Arm:
    return Arm(name, option, tuple(_spec(seed, **method) for seed in seeds(question)))


def _spec(seed: int, **method: Any) -> RunSpec:
    return spec_for(MODEL, TASK, steps=STEPS, eval_every=EVAL_EVERY, seed=seed, **method)


@dataclass(frozen=True)
class Result:
    """One arm at its learning rate: test accuracy by seed."""

    name: str
    lr: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return float(np.mean(self.accuracies))


def results(store: Store, arms: Sequence[Arm], runs: Sequence[Run | None]) -> dict[str, Result] | None:
    """The result of each arm by name, LoRA at the rate that validation chose; None until all runs are kept.

    ``runs`` are those of all specs of ``arms``, in order.
    """
    if any(run is None or not run.status.is_kept() or test_accuracy(run) is None for run in runs):
        return None
    validation = _last_validation(store, [run.run_id for run in runs])
    found, at = {}, 0
    for arm in arms:
        own = runs[at : at + len(arm.specs)]
        at += len(arm.specs)
        by_rate: dict[float, list[Run]] = {}
        for run in own:
            by_rate.setdefault(run.spec.lr, []).append(run)
        rate = max(by_rate, key=lambda lr: np.mean([validation.get(run.run_id, 0.0) for run in by_rate[lr]]))
        by_seed = sorted(by_rate[rate], key=lambda run: run.spec.seed)
        found[arm.name] = Result(arm.name, rate, tuple(test_accuracy(run) for run in by_seed))
    return found


def test_accuracy(run: Run) -> float | None:
    """The accuracy of a run on the test examples; None where it has none."""
    return run.metrics.get(TEST_ACCURACY)


def _last_validation(store: Store, run_ids: list[str]) -> dict[str, float]:
    """The last validation accuracy of each run."""
    curves = store.curves(run_ids)
    points = curves.dropna(subset=[EVAL_ACCURACY]).sort_values("step")
    return points.groupby("run_id")[EVAL_ACCURACY].last().to_dict()


def difference(found: dict[str, Result], rival: str) -> Interval:
    """The learner's design minus a rival, in percentage points, paired by seed, with its 95 % interval."""
    mine, other = found[MINE].accuracies, found[rival].accuracies
    return interval([100.0 * (a - b) for a, b in zip(mine, other, strict=True)])


def tried(store: Store) -> Sequence[Run]:
    """Every kept run of this contest so far, by anybody: same model, task, steps and recipe, at any rate and seed."""
    like = _spec(0).to_dict()
    free = {"method", "components", "rank", "seed", "lr"}
    return [
        run
        for run in store.runs(status=KEPT, settings={name: like[name] for name in ("model", "task", "steps")})
        if all(value == like[key] for key, value in run.spec.to_dict().items() if key not in free)
    ]
