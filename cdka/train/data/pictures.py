"""Pictures as tensors: small ones kept in memory, others opened and prepared when a batch needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AutoConfig

from cdka.errors import CdkaError
from cdka.models.hub import locate
from cdka.tasks.pixels import Pixels, read_pixels
from cdka.tasks.rows import PictureRows, PictureSplit, PixelRows
from cdka.train.data.objectives import Classification
from cdka.train.data.splits import LazySplit, Split
from cdka.train.data.task_data import TaskData

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec


def pixel_data(task: PixelRows) -> TaskData:
    """Pictures that are arrays already: ``pixel_values`` (n, channels, height, width), labels (n,)."""
    splits = {
        name: Split({"pixel_values": torch.from_numpy(part.pixels)}, torch.from_numpy(part.labels), part.ids)
        for name, part in task.splits.items()
    }
    return TaskData(objective=Classification(), num_labels=task.num_labels, notes=task.notes, **splits)


def picture_data(task: PictureRows, spec: RunSpec) -> TaskData:
    """Pictures prepared as the run's model wants them. Raises CdkaError for a model that does not take pictures."""
    pixels = pixels_for(spec.model)
    splits = {name: _lazy(part, pixels) for name, part in task.splits.items()}
    return TaskData(
        objective=Classification(),
        num_labels=len(task.label_names),
        notes=task.notes,
        label_names=task.label_names,
        **splits,
    )


def _lazy(part: PictureSplit, pixels: Pixels) -> LazySplit:
    def read(chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.from_numpy(np.stack([pixels.array(part.open(i)) for i in chosen.tolist()]))}

    return LazySplit(torch.tensor(part.labels, dtype=torch.long), part.ids, read)


def pixels_for(model: str) -> Pixels:
    """The preprocessing of the model called ``model``. Raises CdkaError for one that does not take pictures."""
    folder = locate(model)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not (getattr(config, "image_size", None) or getattr(config, "vision_config", None)):
        raise CdkaError(f"an image task needs a model that takes pictures: got {model!r} ({config.model_type}).")
    return read_pixels(folder, config)
