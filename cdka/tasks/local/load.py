"""The user's own data as a task. The only part of this package that needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdka.tasks.answers import final_number, read_text
from cdka.tasks.data import TaskData
from cdka.tasks.info import TaskInfo
from cdka.tasks.local.pictures import prepare_pictures
from cdka.tasks.local.prepare import prepare
from cdka.tasks.objectives import Classification
from cdka.tasks.options import whole_number
from cdka.tasks.rows import SPLITS
from cdka.tasks.text import classification_data, instruction_data, judged_by

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec

MOST_NEW_TOKENS = 512


def load(info: TaskInfo, spec: RunSpec) -> TaskData:
    """The data that ``spec.task_options`` name, laid out for the run's model. Raises CdkaError with line and fix."""
    if info.name == "local-images":
        return _pictures(spec)
    prepared = prepare(info.name, spec.task_options)
    if info.name == "local-classify":
        return classification_data(prepared.rows, spec, prepared.label_names, notes=prepared.notes)
    return _instructions(prepared.rows, spec, prepared.notes)


def _instructions(rows: dict, spec: RunSpec, notes: tuple[str, ...]) -> TaskData:
    from cdka.models.loading import load_reader

    reader = load_reader(spec.model)
    judged = [row.answer for split in ("validation", "test") for row in rows[split]]
    longest = max(map(len, reader.encode_answers(judged)))
    most = whole_number(spec.task_options, "max_new_tokens", min(longest, MOST_NEW_TOKENS))
    if longest > most:
        notes = (*notes, f"The longest answer has {longest} tokens, and at most {most} are written: raise "
                         "max_new_tokens to let it come out.")  # fmt: skip
    read = read_text if spec.task_options.get("compare", "text") == "text" else final_number
    return instruction_data(rows, spec, judge=judged_by(read), max_new_tokens=most, notes=notes)


def _pictures(spec: RunSpec) -> TaskData:
    from PIL import Image

    from cdka.tasks.images import lazy_split, pixels_for

    found = prepare_pictures(spec.task_options)
    pixels = pixels_for(spec.model)
    splits = {
        split: lazy_split(
            found.parts[split], [found.labels[i] for i in found.parts[split]], 0,
            lambda number: Image.open(found.files[number]), pixels,
        )
        for split in SPLITS
    }  # fmt: skip
    return TaskData(
        objective=Classification(), num_labels=len(found.label_names), notes=found.notes,
        label_names=found.label_names, **splits,
    )  # fmt: skip
