"""A run's data as tensors: the task's rows, read without torch, laid out for the run's model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cdka.runs.spec import AUTO
from cdka.tasks.info import TaskInfo
from cdka.tasks.rows import (
    InstructionRows,
    LabelledRows,
    MeasuredRows,
    PictureRows,
    PictureTextRows,
    PixelRows,
    TextRows,
)
from cdka.train.data.pictures import picture_data, picture_text_data, pixel_data
from cdka.train.data.splits import TaskData
from cdka.train.data.text import classification_data, instruction_data, regression_data, text_data
from cdka.train.limits import check_tokens, within_positions

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec


def fetch_task(task: TaskInfo, spec: RunSpec) -> Iterator[dict[str, Any]]:
    """Make the task's files be here; yields ``{"phase": "downloading", "done_bytes", "total_bytes"}`` meanwhile.

    Nothing happens where the data are local. Raises CdkaError, in one line, where they cannot be had.
    """
    module = import_module(task.module)
    if hasattr(module, "fetch"):
        yield from module.fetch(task, spec)


_LAYOUTS = {
    InstructionRows: instruction_data,
    TextRows: text_data,
    LabelledRows: classification_data,
    MeasuredRows: regression_data,
}
"""The function that makes tokens of each kind of rows with text."""


def load_task(task: TaskInfo, spec: RunSpec, *, uncut: bool = False) -> TaskData:
    """The data that ``spec`` trains and is judged on, within the positions of its model (not if ``uncut``).

    Raises CdkaError for unusable data.
    """
    rows = import_module(task.module).read(task, spec)
    if isinstance(rows, PictureRows):
        return picture_data(rows, spec)
    if isinstance(rows, PictureTextRows):
        return picture_text_data(rows, spec)
    if isinstance(rows, PixelRows):
        return pixel_data(rows)
    open_length = uncut or spec.max_length == AUTO  # auto stays within the positions by itself
    longest, notes = (spec.max_length, ()) if open_length else within_positions(spec.model, spec.max_length)
    data = _LAYOUTS[type(rows)](rows, spec.with_(max_length=longest))
    check_tokens(data, spec.model)
    return replace(data, notes=(*notes, *data.notes))
