"""The embedded digits, upright (``digits``) or shifted (``digits-flip``), as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cdka.tasks import digit_images
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.data import Split, TaskData
from cdka.tasks.objectives import Classification
from cdka.tasks.options import check_known

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec


def load(info: TaskInfo, spec: RunSpec | None = None) -> TaskData:
    """Train, validation and test splits: ``pixel_values`` (n, 1, 8, 8) in [-1, 1] and labels (n,) in 0..9."""
    if spec is not None:
        check_known(spec.task_options, (), info.name)
    splits = {}
    for name, rows in digit_images.table().groupby("split"):
        images = digit_images.images(rows)
        if info.name == "digits-flip":
            images = digit_images.shift(images)
        pixels = torch.from_numpy((images * 2.0 - 1.0).astype(np.float32)).unsqueeze(1)
        labels = torch.from_numpy(rows["label"].to_numpy().copy())
        splits[name] = Split({"pixel_values": pixels}, labels, rows.index.to_numpy())
    return TaskData(objective=Classification(), num_labels=10, **splits)
