"""A task's data in memory: three splits and the objective that turns logits into loss and answers."""

from __future__ import annotations

from dataclasses import dataclass

from cdka.train.data.objectives import Objective
from cdka.train.data.splits import LazySplit, Split, TextSplit

AnySplit = Split | TextSplit | LazySplit


@dataclass(frozen=True)
class TaskData:
    """Train, validation and test splits with the objective they share.

    Curves and choices use ``validation``; ``test`` is read once, at the end of a run. ``kind`` is the kind of model
    that the data were laid out for, where the task leaves it to the model (None: the task's own). ``notes`` are
    things a person should know before trusting the numbers: what was cut, left out or drawn at random. ``max_length``
    is in tokens, None where the data are none.
    """

    train: AnySplit
    validation: AnySplit
    test: AnySplit
    objective: Objective
    num_labels: int | None = None
    kind: str | None = None
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    max_length: int | None = None
