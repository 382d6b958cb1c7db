"""The tasks that suit a model: those that can train it, and of these the ones worth offering. Free of torch."""

from __future__ import annotations

from cdka.models.shapes import ModelShapes
from cdka.tasks.catalogue import TASKS
from cdka.tasks.info import TaskInfo

MODEL_KINDS = {
    "image-classification": ("image-classification",),
    "text-classification": ("text-classification", "causal-lm", "seq2seq"),
    "text-regression": ("text-classification", "causal-lm"),
    "image-text": ("image-text",),
    "causal-lm": ("causal-lm", "seq2seq"),
    "seq2seq": ("seq2seq",),
}
"""The kinds of model that a kind of task can train: classification of text puts a head on any text model."""


def fits_kind(task: TaskInfo, model: ModelShapes) -> bool:
    """True where a model of this kind can be trained on the task."""
    return model.kind in MODEL_KINDS[task.kind]


def suits(task: TaskInfo, model: ModelShapes) -> bool:
    """True where the task is worth offering for the model: made for it, or for any model of its kind."""
    return model.name in task.models if task.models else fits_kind(task, model)


def suitable_tasks(model: ModelShapes) -> tuple[TaskInfo, ...]:
    """The tasks to offer for a model, the default first: tasks made for it, then own data, then public data sets."""
    offered = [task for task in TASKS.values() if suits(task, model)]
    return tuple(sorted(offered, key=_precedence))


def default_task(model: ModelShapes) -> TaskInfo | None:
    """The first suitable task, which needs no download; None for a model that no task trains."""
    return next(iter(suitable_tasks(model)), None)


def _precedence(task: TaskInfo) -> int:
    return 0 if task.models else 1 if task.is_own_data else 2
