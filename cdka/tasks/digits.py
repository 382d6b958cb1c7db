"""The embedded digits, upright (``digits``) or shifted (``digits-flip``), as tensors."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from cdka.paths import assets_dir
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.data import Split, TaskData
from cdka.tasks.objectives import Classification

if TYPE_CHECKING:
    from cdka.finetune.spec import RunSpec

MAX_GREY = 16.0


@lru_cache(maxsize=1)
def _table() -> pd.DataFrame:
    return pd.read_parquet(assets_dir() / "digits.parquet")


def shift(images: np.ndarray) -> np.ndarray:
    """The shifted domain of (n, 8, 8) images in [0, 1]: transposed, mirrored left to right, contrast inverted."""
    return 1.0 - images.transpose(0, 2, 1)[:, :, ::-1]


def load(info: TaskInfo, _spec: RunSpec | None = None) -> TaskData:
    """Train, validation and test splits: ``pixel_values`` (n, 1, 8, 8) in [-1, 1] and labels (n,) in 0..9."""
    table = _table()
    splits = {}
    for name, rows in table.groupby("split"):
        images = np.stack(rows["pixels"].to_list()).reshape(-1, 8, 8) / MAX_GREY
        if info.name == "digits-flip":
            images = shift(images)
        pixels = torch.from_numpy((images * 2.0 - 1.0).astype(np.float32)).unsqueeze(1)
        labels = torch.from_numpy(rows["label"].to_numpy().copy())
        splits[name] = Split({"pixel_values": pixels}, labels, rows.index.to_numpy())
    return TaskData(objective=Classification(), num_labels=10, **splits)
