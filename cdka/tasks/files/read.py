"""The user's own data as the rows of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdka.tasks.answers import final_number, read_text
from cdka.tasks.files.pictures import prepare_pictures
from cdka.tasks.files.prepare import prepare
from cdka.tasks.info import TaskInfo
from cdka.tasks.options import whole_number
from cdka.tasks.own_metric import own_scores
from cdka.tasks.rows import SPLITS, InstructionRows, LabelledRows, MeasuredRows, PictureRows, PictureSplit
from cdka.tasks.scores import judged_by, label_scores

if TYPE_CHECKING:
    import numpy as np

    from cdka.runs.spec import RunSpec
    from cdka.tasks.files.pictures import Pictures


def read(info: TaskInfo, spec: RunSpec) -> InstructionRows | LabelledRows | MeasuredRows | PictureRows:
    """The data that ``spec.task_options`` name. Raises CdkaError with line and fix."""
    if info.name == "local-images":
        found = prepare_pictures(spec.task_options)
        return PictureRows(
            {split: _pictures(found, found.parts[split]) for split in SPLITS},
            found.label_names,
            label_scores,
            found.notes,
            own_scores(spec.task_options),
        )
    prepared = prepare(info.name, spec.task_options)
    own = own_scores(spec.task_options)
    if info.name == "local-classify":
        return LabelledRows(
            prepared.rows, prepared.label_names, scores=label_scores, notes=prepared.notes, named_scores=own
        )
    if info.name == "local-regress":
        return MeasuredRows(prepared.rows, own, notes=prepared.notes)
    compare = read_text if spec.task_options.get("compare", "text") == "text" else final_number
    most = whole_number(spec.task_options, "max_new_tokens", None)
    return InstructionRows(prepared.rows, judged_by(compare), most, own, notes=prepared.notes)


def _pictures(found: Pictures, part: np.ndarray) -> PictureSplit:
    from PIL import Image

    return PictureSplit([found.labels[i] for i in part], part, lambda i: Image.open(found.files[part[i]]))
