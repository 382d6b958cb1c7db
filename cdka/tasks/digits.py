"""The embedded digits: upright (``digits``), and shifted to another domain (``digits-flip``). Free of torch."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cdka.paths import assets_dir
from cdka.tasks.info import TaskInfo
from cdka.tasks.options import check_known, whole_number
from cdka.tasks.rows import SPLITS, PixelRows, PixelSplit

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


def split_table(seed: int | None = None) -> pd.DataFrame:
    """``table`` with the digits dealt anew into splits of the same sizes, stratified by label; the shipped split
    without a seed.
    """
    rows = table()
    if seed is None:
        return rows
    rng = np.random.default_rng(seed)
    sizes = rows["split"].value_counts()
    place = np.empty(len(rows))
    for label in rows["label"].unique():  # positions spread evenly over 0..1 within each label
        own = np.flatnonzero(rows["label"] == label)
        place[rng.permutation(own)] = (np.arange(len(own)) + 0.5) / len(own)
    order = np.argsort(place, kind="stable")
    split = np.repeat(np.array(SPLITS, dtype=object), [sizes[name] for name in SPLITS])
    dealt = np.empty(len(rows), dtype=object)
    dealt[order] = split
    return rows.assign(split=dealt)


@lru_cache(maxsize=16)
def pretraining_split(model: str) -> int | None:
    """The ``split_seed`` of the digits that an embedded model was pre-trained on; None for the shipped split."""
    card = assets_dir() / model / "provenance.json"
    if "/" in model or not card.is_file():
        return None
    return json.loads(card.read_text(encoding="utf-8")).get("split_seed")


def read(info: TaskInfo, spec: RunSpec | None = None) -> PixelRows:
    """Train, validation and test splits: ``pixels`` (n, 1, 8, 8) in [-1, 1], labels (n,) in 0..9.

    Options: ``split_seed`` deals the digits anew (``split_table``), by default as they were for the embedded model that
    is trained, so that no test digit was seen in pre-training; ``train_examples`` keeps that many of the training
    split, the same for every seed of a run and as many of each label as can be.
    """
    options = {} if spec is None else spec.task_options
    check_known(options, ("split_seed", "train_examples"), info.name)
    kept = whole_number(options, "train_examples", None, least=10)
    own = None if spec is None else pretraining_split(spec.model)
    dealt = split_table(whole_number(options, "split_seed", own, least=0))
    splits = {}
    for name, rows in dealt.groupby("split"):
        if name == "train" and kept is not None:
            rank = rows.groupby("label").cumcount()  # the first of every label, then the second, ...
            rows = rows.loc[rank.sort_values(kind="stable").index[:kept].sort_values()]
        shown = images(rows)
        if info.name == "digits-flip":
            shown = shift(shown)
        pixels = (shown * 2.0 - 1.0).astype(np.float32)[:, None]
        splits[name] = PixelSplit(pixels, rows["label"].to_numpy().copy(), rows.index.to_numpy())
    return PixelRows(splits, num_labels=10)
