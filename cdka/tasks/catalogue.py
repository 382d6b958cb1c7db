"""The tasks known by name, the embedded ones declared here. Free of torch."""

from __future__ import annotations

from types import MappingProxyType

from cdka.errors import unknown
from cdka.tasks.files.catalogue import LOCAL
from cdka.tasks.info import KINDS, TaskInfo
from cdka.tasks.public_sets import PRESETS

DIGITS_MODELS = ("digits-vit", "digits-vit@12", "digits-vit@13", "digits-vit@14", "digits-vit@15", "digits-vit@2602")
"""The embedded base models that read digits: a family of five, and the base of version 0.1.0."""
DIGITS_SOURCE = "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998)"

EMBEDDED = (
    TaskInfo(
        name="digits-flip",
        title="Flipped digits",
        kind="image-classification",
        metric="accuracy",
        description=(
            "8x8 handwritten digits, transposed, mirrored and with inverted contrast: a shifted domain on which "
            "a model that learned upright digits starts near chance."
        ),
        module="cdka.tasks.digits",
        recipe=MappingProxyType({"steps": 200, "lr": 3e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20}),
        models=DIGITS_MODELS,
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
        description="The 8x8 handwritten digits as they are: what the digits-vit models were pre-trained on.",
        module="cdka.tasks.digits",
        recipe=MappingProxyType({"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20}),
        models=DIGITS_MODELS,
        examples=MappingProxyType({"train": 900, "validation": 300, "test": 597}),
        chance=0.1,
        embedded=True,
        source=DIGITS_SOURCE,
        licence="CC BY 4.0",
    ),
    TaskInfo(
        name="math-chain",
        title="Chains that begin with a product",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "Multiply two digits, then add or subtract, answered by the running totals (7*8-6= gives 56,50): math-lm "
            "can add and subtract but has never seen a product, and gets none right at first. An answer is right when "
            "all its totals are."
        ),
        module="cdka.tasks.math_chain",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 3e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20, "max_length": 64}
        ),
        models=("math-lm",),
        examples=MappingProxyType({"train": 4000, "validation": 300, "test": 600}),
        loss_tokens=21_592,
        embedded=True,
        source="generated (cdka.tasks.math_chain)",
        licence="MIT",
    ),
    TaskInfo(
        name="math",
        title="Chains of sums",
        kind="causal-lm",
        metric="accuracy",
        description="Chains of additions and subtractions (8+27-6= gives 35,29): what math-lm was pre-trained on.",
        module="cdka.tasks.math_chain",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 64, "eval_every": 20, "max_length": 64}
        ),
        models=("math-lm",),
        examples=MappingProxyType({"train": 4000, "validation": 300, "test": 600}),
        loss_tokens=22_682,
        embedded=True,
        source="generated (cdka.tasks.math_chain)",
        licence="MIT",
    ),
)

TASKS: dict[str, TaskInfo] = {task.name: task for task in (*EMBEDDED, *PRESETS, *LOCAL)}


def find_task(name: str) -> TaskInfo:
    """The task called ``name``; raises CdkaError with the nearest names where there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise unknown("task", name, TASKS, next_step="List them with: cdka tasks") from None


__all__ = ["DIGITS_SOURCE", "KINDS", "TASKS", "TaskInfo", "find_task"]
