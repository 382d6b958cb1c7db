"""Retention: a task that the model could do before the run, judged before and after (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cdka.errors import CdkaError
from cdka.runs.spec import AUTO
from cdka.tasks.catalogue import TASKS, find_task
from cdka.tasks.files.text import read_passages
from cdka.tasks.rows import SPLITS, TextRows
from cdka.train.data.load import load_task
from cdka.train.data.splits import TaskData
from cdka.train.data.text import TEXT_LENGTH, text_data
from cdka.train.judging import subset

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec
    from cdka.train.load_model import Loaded

MAX_EXAMPLES = 64
"""A model that is judged on text is judged on this many examples of it; classifiers on the whole test split."""


@dataclass(frozen=True)
class Retained:
    """The examples that are judged before and after, and the task that they are of."""

    task: str
    data: TaskData

    @property
    def of(self) -> int:
        """The number of judged examples."""
        return len(self.data.test)


def load_retained(spec: RunSpec, loaded: Loaded, kind: str) -> Retained | None:
    """The examples that ``spec.retain`` names, for the model of the run; None where it names none.

    Raises CdkaError where the model cannot be judged on them: another kind of model, or a head that is new.
    """
    if not spec.retain:
        return None
    if spec.retain not in TASKS:
        return _retained_text(spec, kind)
    task = spec.retain
    data = load_task(find_task(task), spec.with_(task=task, task_options={}, retain="", max_length=AUTO))
    if (data.kind or TASKS[task].kind) != kind:
        raise CdkaError(
            f"what is to be retained must suit the model of the run ({kind}): got {spec.retain!r} "
            f"({data.kind or TASKS[task].kind}). Name another task or text file."
        )
    if data.num_labels is not None and (loaded.fresh_modules or data.num_labels != loaded.model.config.num_labels):
        raise CdkaError(
            f"retention judges what the model could do before: {spec.model!r} gets a new head for {spec.task!r}, so it "
            f"could not do {spec.retain!r}. Leave retain out."
        )
    test = data.test
    if data.num_labels is None and len(test) > MAX_EXAMPLES:
        test = test.select(subset(len(test), MAX_EXAMPLES))
    return Retained(task, TaskData(data.train, data.validation, test, data.objective, kind=data.kind))


def _retained_text(spec: RunSpec, kind: str) -> Retained:
    """The passages of a text file, all of them judged."""
    if kind != "causal-lm":
        raise CdkaError(
            f"a text to be retained needs a causal language model: got {spec.retain!r} for {spec.model!r}, which "
            f"is for {kind}. Name a task of the model's kind."
        )
    passages = read_passages(Path(spec.retain))
    rows = TextRows(dict.fromkeys(SPLITS, passages))
    data = text_data(rows, spec.with_(max_length=TEXT_LENGTH))
    test = data.test.select(subset(len(data.test), MAX_EXAMPLES))
    return Retained(Path(spec.retain).name, TaskData(test, test, test, data.objective, kind=data.kind))
