"""What a task is, and the tasks known by name. Free of torch: the Studio and the solver read this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cdka.errors import unknown

KINDS = ("image-classification", "text-classification", "causal-lm", "seq2seq")


@dataclass(frozen=True)
class TaskInfo:
    """One task: where its data come from, what is measured, and the recipe that fits it.

    ``recipe`` holds the defaults of a run on this task (keys of ``RunSpec``); ``chance`` is the metric of a
    guess; ``models`` names the embedded models it was made for (empty: any model of the right kind).
    ``module`` is imported only to load the data; it offers ``load(info, model_name, **options)``.
    """

    name: str
    title: str
    kind: str
    metric: str
    description: str
    module: str
    recipe: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    models: tuple[str, ...] = ()
    examples: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    chance: float | None = None
    embedded: bool = False
    source: str = ""
    licence: str = ""


DIGITS_SOURCE = "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998)"

_ALL = (
    TaskInfo(
        name="digits-flip",
        title="Flipped digits",
        kind="image-classification",
        metric="accuracy",
        description=(
            "8x8 handwritten digits, transposed, mirrored and with inverted contrast: a shifted domain on which "
            "the model that learned upright digits starts at chance."
        ),
        module="cdka.tasks.digits",
        recipe=MappingProxyType({"steps": 200, "lr": 3e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20}),
        models=("digits-vit",),
        examples=MappingProxyType({"train": 900, "validation": 300, "test": 597}),
        chance=0.1,
        embedded=True,
        source=DIGITS_SOURCE,
        licence="CC BY 4.0",
    ),
    TaskInfo(
        name="digits",
        title="Upright digits",
        kind="image-classification",
        metric="accuracy",
        description="The 8x8 handwritten digits as they are: what digits-vit was pre-trained on.",
        module="cdka.tasks.digits",
        recipe=MappingProxyType({"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20}),
        models=("digits-vit",),
        examples=MappingProxyType({"train": 900, "validation": 300, "test": 597}),
        chance=0.1,
        embedded=True,
        source=DIGITS_SOURCE,
        licence="CC BY 4.0",
    ),
    TaskInfo(
        name="math-chain",
        title="Chains in shifted digits",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "Chains of additions and subtractions, answered by their running totals (8+27-6= gives 35,29), with every "
            "digit written as another one: math-lm, which learned ordinary digits, gets none of them right at first. "
            "An answer is right when all its totals are."
        ),
        module="cdka.tasks.math_chain",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 3e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20, "max_length": 64}
        ),
        models=("math-lm",),
        examples=MappingProxyType({"train": 4000, "validation": 300, "test": 600}),
        embedded=True,
        source="generated (cdka.tasks.math_chain)",
        licence="MIT",
    ),
    TaskInfo(
        name="math",
        title="Chains in ordinary digits",
        kind="causal-lm",
        metric="accuracy",
        description="The same chains in ordinary digits: what math-lm was pre-trained on.",
        module="cdka.tasks.math_chain",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20, "max_length": 64}
        ),
        models=("math-lm",),
        examples=MappingProxyType({"train": 4000, "validation": 300, "test": 600}),
        embedded=True,
        source="generated (cdka.tasks.math_chain)",
        licence="MIT",
    ),
)

TASKS: dict[str, TaskInfo] = {task.name: task for task in _ALL}


def find_task(name: str) -> TaskInfo:
    """The task called ``name``; raises CdkaError with the nearest names where there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise unknown("task", name, TASKS, next_step="List them with: cdka tasks") from None
