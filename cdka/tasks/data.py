"""A task's data in memory: three splits and the objective that turns logits into loss and answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cdka.tasks.catalogue import find_task
from cdka.tasks.objectives import Objective
from cdka.tasks.splits import LazySplit, Split, TextSplit

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec

AnySplit = Split | TextSplit | LazySplit


@dataclass(frozen=True)
class TaskData:
    """Train, validation and test splits with the objective they share.

    Curves and choices use ``validation``; ``test`` is read once, at the end of a run. ``kind`` is the kind of model
    that the data were laid out for, where the task leaves it to the model (None: the task's own). ``notes`` are
    things a person should know before trusting the numbers: what was cut, left out or drawn at random.
    """

    train: AnySplit
    validation: AnySplit
    test: AnySplit
    objective: Objective
    num_labels: int | None = None
    kind: str | None = None
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


def fetch_task(spec: RunSpec) -> Iterator[dict[str, Any]]:
    """Make the task's files be here; yields ``{"phase": "downloading", "done_bytes", "total_bytes"}`` meanwhile.

    Nothing happens where the data are local. Raises CdkaError, in one line, where they cannot be had.
    """
    info = find_task(spec.task)
    module = import_module(info.module)
    if hasattr(module, "fetch"):
        yield from module.fetch(info, spec)


def load_task(spec: RunSpec) -> TaskData:
    """The data that ``spec`` trains and is judged on. Raises CdkaError for an unknown task or unusable data."""
    info = find_task(spec.task)
    return import_module(info.module).load(info, spec)


__all__ = ["AnySplit", "LazySplit", "Split", "TaskData", "TextSplit", "fetch_task", "load_task"]
