"""A run's data as tensors: the task's rows, read without torch, laid out for the run's model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cdka.tasks.catalogue import find_task
from cdka.tasks.rows import InstructionRows, LabelledRows, PictureRows
from cdka.train.data.pictures import picture_data, pixel_data
from cdka.train.data.task_data import TaskData
from cdka.train.data.text import classification_data, instruction_data

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec


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
    rows = import_module(info.module).read(info, spec)
    if isinstance(rows, InstructionRows):
        return instruction_data(rows, spec)
    if isinstance(rows, LabelledRows):
        return classification_data(rows, spec)
    if isinstance(rows, PictureRows):
        return picture_data(rows, spec)
    return pixel_data(rows)
