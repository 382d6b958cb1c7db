"""Build the embedded digits: ``python -m tools.build_digits`` writes ``assets/digits.parquet``.

The data are the UCI handwritten digits, 1,797 images of 8x8 pixels in 17 grey levels (CC BY 4.0), as scikit-learn
ships them; scikit-learn is needed only here. The split is drawn once, from ``SEED``, stratified by label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cdka.paths import assets_dir
from cdka.tasks.catalogue import DIGITS_SOURCE

SEED = 2602
SIZES = {"train": 900, "validation": 300, "test": 597}


def build(destination: Path) -> pd.DataFrame:
    """Write one row per image: ``pixels`` (64 integers 0..16, row by row), ``label``, ``split``; returns it."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=SIZES["test"], stratify=labels, random_state=SEED)
    train, validation = train_test_split(rest, test_size=SIZES["validation"], stratify=labels[rest], random_state=SEED)
    split = np.empty(len(labels), dtype=object)
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        split[rows] = name
    table = pd.DataFrame({"pixels": list(images), "label": labels, "split": split})
    table.attrs["source"] = DIGITS_SOURCE + ", CC BY 4.0"
    table.to_parquet(destination, index=False, compression="zstd")
    return table


if __name__ == "__main__":
    written = build(assets_dir() / "digits.parquet")
    print(written["split"].value_counts().to_dict())
