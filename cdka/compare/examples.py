"""The test examples of a task as people see them: pictures, and texts read in a child process."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cdka import childproc
from cdka.paths import assets_dir

_SCALE = 5


def preview(task: str, examples: Sequence[int]) -> list[str]:
    """One small picture (a PNG as data URI) per example, for the embedded digits; empty for any other task."""
    if task not in ("digits", "digits-flip"):
        return []
    table = _digits()
    out = []
    for example in examples:
        if example not in table.index:
            return []
        grey = np.asarray(table.loc[example, "pixels"], dtype=float).reshape(8, 8) / 16.0
        if task == "digits-flip":
            grey = 1.0 - grey.T[:, ::-1]
        out.append("data:image/png;base64," + base64.b64encode(png(grey)).decode())
    return out


@lru_cache(maxsize=1)
def _digits() -> pd.DataFrame:
    return pd.read_parquet(assets_dir() / "digits.parquet")


def png(grey: np.ndarray, scale: int = _SCALE) -> bytes:
    """A greyscale picture with values in [0, 1], of shape (height, width), as PNG; each pixel ``scale`` wide."""
    pixels = np.kron(np.round(np.clip(grey, 0, 1) * 255).astype(np.uint8), np.ones((scale, scale), dtype=np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


LIMIT_S = 180.0


def texts(spec: Mapping[str, Any], examples: Sequence[int]) -> dict[int, str]:
    """The text that each of the test examples gave the model, by example; takes some seconds.

    Raises CdkaError where the task is not about text, or its data or tokenizer are not at hand.
    """
    found = childproc.call(
        "cdka.train.data.token_preview:test_texts",
        {"spec": dict(spec), "examples": list(map(int, examples))},
        limit_s=LIMIT_S,
        failure=f"the examples of {spec.get('task')!r} could not be read",
    )
    return {int(example): text for example, text in found.items()}
