"""A task's data in memory: three splits of tensors and the objective that turns logits into loss and answers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import torch

from cdka.tasks.catalogue import find_task
from cdka.tasks.objectives import Objective

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec


@dataclass(frozen=True)
class Split:
    """Examples as tensors: model inputs by name, each (n, ...), labels (n, ...), and the examples' own numbers (n,)."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: torch.Tensor) -> Split:
        """The examples at ``rows``, in that order."""
        return Split({k: v[rows] for k, v in self.inputs.items()}, self.labels[rows], self.ids[rows.numpy()])


@dataclass(frozen=True)
class TaskData:
    """Train, validation and test splits with the objective they share.

    Curves and choices use ``validation``; ``test`` is read once, at the end of a run.
    """

    train: Split
    validation: Split
    test: Split
    objective: Objective
    num_labels: int | None = None


def load_task(spec: RunSpec) -> TaskData:
    """The data that ``spec`` trains and is judged on. Raises CdkaError for an unknown task or unusable data."""
    info = find_task(spec.task)
    return import_module(info.module).load(info, spec)
