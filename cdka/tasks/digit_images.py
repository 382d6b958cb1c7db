"""The embedded digits as images: upright, and shifted to the domain of ``digits-flip``. Free of torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from cdka.paths import assets_dir

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
