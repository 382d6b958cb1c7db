"""The facts of a task, and its recipe: the settings a run takes where none are given. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

KINDS = ("image-classification", "text-classification", "text-regression", "image-text", "causal-lm", "seq2seq")


@dataclass(frozen=True)
class TaskInfo:
    """One task: where its data come from, what is measured, and the recipe that fits it.

    ``recipe`` holds the defaults of a run on this task (keys of ``RunSpec``); ``chance`` is the metric of a
    guess; ``loss_tokens`` is how many tokens of the training split the loss counts, where that is known; ``models``
    names the embedded models it was made for (empty: any model of the right kind).
    ``module`` is imported only to read the data; it offers ``read(info, spec)`` (see ``cdka.tasks.rows``) and, where
    something must be downloaded first, ``fetch(info, spec)``.
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
    loss_tokens: int | None = None
    embedded: bool = False
    source: str = ""
    licence: str = ""

    @property
    def num_loss_tokens(self) -> int | None:
        """The targets that the loss counts in one pass over the training split: tokens, or one label per example of a
        classification; None where that is not known before the data are read."""
        return self.examples.get("train") if self.kind.endswith("classification") else self.loss_tokens

    @property
    def is_own_data(self) -> bool:
        """True for a task that trains on a file or folder of the user's."""
        return self.name.startswith("local-")


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
