"""The embedded digits: upright (``digits``), and shifted to another domain (``digits-flip``). Free of torch."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cdka.paths import assets_dir
from cdka.tasks.info import TaskInfo
from cdka.tasks.options import check_known
from cdka.tasks.rows import PixelRows, PixelSplit

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

MAX_GREY = 16.0


@lru_cache(maxsize=1)
def table() -> pd.DataFrame:
    """All 1797 digits: ``pixels`` (64 whole numbers from 0 to 16), ``label``, ``split``."""
    return pd.read_parquet(assets_dir() / "digits.parquet")


def images(rows: pd.DataFrame) -> np.ndarray:
    """The upright images of some rows: (n, 8, 8) in [0, 1]."""
    return np.stack(rows["pixels"].to_list()).reshape(-1, 8, 8) / MAX_GREY


def shift(images: np.ndarray) -> np.ndarray:
    """The shifted domain of (n, 8, 8) images in [0, 1]: transposed, mirrored left to right, contrast inverted."""
    return 1.0 - images.transpose(0, 2, 1)[:, :, ::-1]


def samples(seed: int, split: str = "train") -> pd.DataFrame:
    """One random row for each of the ten labels, in their order."""
    rows = table()
    return rows[rows["split"] == split].groupby("label").sample(1, random_state=seed).sort_values("label")


def read(info: TaskInfo, spec: RunSpec | None = None) -> PixelRows:
    """Train, validation and test splits: ``pixels`` (n, 1, 8, 8) in [-1, 1], labels (n,) in 0..9."""
    if spec is not None:
        check_known(spec.task_options, (), info.name)
    splits = {}
    for name, rows in table().groupby("split"):
        shown = images(rows)
        if info.name == "digits-flip":
            shown = shift(shown)
        pixels = (shown * 2.0 - 1.0).astype(np.float32)[:, None]
        splits[name] = PixelSplit(pixels, rows["label"].to_numpy().copy(), rows.index.to_numpy())
    return PixelRows(splits, num_labels=10)
