"""A run's data as tensors: the task's rows, read without torch, laid out for the run's model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cdka.tasks.info import TaskInfo
from cdka.tasks.rows import InstructionRows, LabelledRows, PictureRows, TextRows
from cdka.train.data.pictures import picture_data, pixel_data
from cdka.train.data.task_data import TaskData
from cdka.train.data.text import classification_data, instruction_data, text_data

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec


def fetch_task(task: TaskInfo, spec: RunSpec) -> Iterator[dict[str, Any]]:
    """Make the task's files be here; yields ``{"phase": "downloading", "done_bytes", "total_bytes"}`` meanwhile.

    Nothing happens where the data are local. Raises CdkaError, in one line, where they cannot be had.
    """
    module = import_module(task.module)
    if hasattr(module, "fetch"):
        yield from module.fetch(task, spec)


def load_task(task: TaskInfo, spec: RunSpec) -> TaskData:
    """The data that ``spec`` trains and is judged on. Raises CdkaError for unusable data."""
    rows = import_module(task.module).read(task, spec)
    if isinstance(rows, InstructionRows):
        return instruction_data(rows, spec)
    if isinstance(rows, TextRows):
        return text_data(rows, spec)
    if isinstance(rows, LabelledRows):
        return classification_data(rows, spec)
    if isinstance(rows, PictureRows):
        return picture_data(rows, spec)
    return pixel_data(rows)
