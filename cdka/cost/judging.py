"""Numbers of examples that a run judges: as given, or for ``auto`` as a quarter of the training time allows. (ours)"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cdka.runs.spec import ALL, AUTO, RunSpec

SHARE = 0.25
"""Judging may take this share of the training time."""
CHEAP_S = 15.0
"""Judging that takes no longer than this is not cut down: the whole splits are cheap."""
SPENT_ON = {"eval": 0.4, "generate": 0.3, "test": 0.3}
"""The shares of the judging time; what one of them does not need goes to the others."""
MIN_EXAMPLES = {"eval": 32, "generate": 8, "test": 16}
"""Fewer than this say too little, whatever they cost."""


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine: one update, the loss of one example, and generated answers (0: none are).

    Answers are generated ``answer_rows`` at a time: each such batch takes ``decode_s``, and each answer in it
    ``answer_s`` more. A small batch takes nearly as long as a large one.
    """

    step_s: float
    example_s: float
    answer_s: float
    decode_s: float = 0.0
    answer_rows: int = 16

    def answers_s(self, number: int) -> float:
        """Seconds for so many answers."""
        return math.ceil(number / self.answer_rows) * self.decode_s + number * self.answer_s

    def judging_s(self, use: str, number: int, looks: int, *, generates: bool) -> float:
        """Seconds that a run spends on judging ``number`` examples for ``use`` (eval, generate or test)."""
        if use == "eval":
            return looks * number * self.example_s
        if use == "generate":
            return looks * self.answers_s(number)
        return number * self.example_s + (self.answers_s(number) if generates else 0.0)


@dataclass(frozen=True)
class Judging:
    """Numbers of judged examples: at each evaluation, with a generated answer, and at the end; each of how many.

    ``costs`` are what an ``auto`` decision was made with, None where nothing had to be measured.
    """

    eval: int
    generate: int
    test: int
    eval_of: int
    test_of: int
    costs: Costs | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for every subset that is not the whole split."""
        found = []
        if self.eval < self.eval_of:
            found.append(f"each look judges the same {self.eval:,} of {self.eval_of:,} validation examples")
        if 0 < self.generate < self.eval:
            found.append(f"answers are generated for the same {self.generate:,} of them")
        if self.test < self.test_of:
            found.append(f"the test is on the same {self.test:,} of {self.test_of:,} examples")
        return ("; ".join(found) + ".",) if found else ()

    def metrics(self) -> dict[str, int]:
        """The sizes of the splits that the subsets are taken from."""
        return {"eval/of": self.eval_of, "test/of": self.test_of}


def affordable(
    spec: RunSpec,
    asked: Mapping[str, int | str],
    sizes: Mapping[str, int],
    costs: Costs,
    *,
    generates: bool,
    least: Mapping[str, int] = MIN_EXAMPLES,
) -> dict[str, int]:
    """The number of examples for each use: as asked, or for ``auto`` what its share of the judging time pays for.

    ``auto`` is never below ``least``, whatever that costs.
    """
    looks = looks_of(spec)

    def cost(name: str, number: int) -> float:
        return costs.judging_s(name, number, looks, generates=generates)

    chosen = {
        name: sizes[name] if requested in (ALL, AUTO) else min(requested, sizes[name])
        for name, requested in asked.items()
    }
    budget = max(SHARE * spec.steps * costs.step_s, CHEAP_S)
    open_uses = [name for name, requested in asked.items() if requested == AUTO]
    budget -= sum(cost(name, chosen[name]) for name in chosen if name not in open_uses)
    while open_uses:  # those that need less than their share leave the rest to the others
        total = sum(SPENT_ON[name] for name in open_uses)
        part = {name: budget * SPENT_ON[name] / total for name in open_uses}
        satisfied = [name for name in open_uses if cost(name, sizes[name]) <= part[name]]
        if not satisfied:
            for name in open_uses:
                floor = min(least[name], sizes[name])
                chosen[name] = min(sizes[name], max(floor, _largest(lambda n, name=name: cost(name, n), part[name])))
            break
        for name in satisfied:
            budget -= cost(name, sizes[name])
            open_uses.remove(name)
    chosen["generate"] = min(chosen["generate"], chosen["eval"])
    return chosen


def looks_of(spec: RunSpec) -> int:
    """The number of evaluations on the validation split, the one before the first step included."""
    return 1 + math.ceil(spec.steps / spec.eval_every)


def _largest(cost: Callable[[int], float], budget: float) -> int:
    """The largest multiple of 8 whose cost is within the budget: the next machine is likely to decide the same."""
    low, high = 0, 2**17
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(8 * middle) <= budget else (low, middle - 1)
    return 8 * low
