"""The tasks known by name. Free of torch: the Studio and the solver read this."""

from __future__ import annotations

from cdka.errors import unknown
from cdka.tasks.embedded import DIGITS_SOURCE, EMBEDDED
from cdka.tasks.files.catalogue import LOCAL
from cdka.tasks.info import KINDS, TaskInfo
from cdka.tasks.presets import PRESETS

TASKS: dict[str, TaskInfo] = {task.name: task for task in (*EMBEDDED, *PRESETS, *LOCAL)}


def find_task(name: str) -> TaskInfo:
    """The task called ``name``; raises CdkaError with the nearest names where there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise unknown("task", name, TASKS, next_step="List them with: cdka tasks") from None


__all__ = ["DIGITS_SOURCE", "KINDS", "TASKS", "TaskInfo", "find_task"]
