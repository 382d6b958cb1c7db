"""The facts of a task. Free of torch: the Studio and the solver read this."""

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
    guess; ``models`` names the embedded models it was made for (empty: any model of the right kind).
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
    embedded: bool = False
    source: str = ""
    licence: str = ""

    @property
    def is_own_data(self) -> bool:
        """True for a task that trains on a file or folder of the user's."""
        return self.name.startswith("local-")
