"""The settings that a run takes where none are given: the task's recipe, as the paper's code changes it by model."""

from __future__ import annotations

from typing import Any

from cdka.tasks.info import TaskInfo

_BY_MODEL: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("llama-3.1", "metamath-gsm8k", {"batch_size": 64, "steps": 1563}),
    ("llama-3.1", "codefeedback-humaneval", {"batch_size": 64, "steps": 1563}),
    ("t5", "glue-", {"dtype": "float32"}),
)
"""(part of the model's name, beginning of the task's name, settings): Llama-3.1-8B is trained in batches of 64, T5 in
float32. One epoch of 100,000 examples in batches of 64 is 1,563 steps."""


def recipe_of(task: TaskInfo, model: str) -> dict[str, Any]:
    """The recipe of ``task`` for ``model``."""
    name = model.rstrip("/").rsplit("/", 1)[-1].casefold().replace("meta-", "").replace("_", "-")
    recipe = dict(task.recipe)
    for part, beginning, settings in _BY_MODEL:
        if part in name and task.name.startswith(beginning):
            recipe.update(settings)
    return recipe
