"""Builds ``assets/learn/gradient.json``, the gradient that the course folds: ``python tools/build_learn_gradient.py``.

A part of one layer's real gradient, small enough to see every entry: the 16 rows and 16 columns with the largest sum
of squares, in their order. Measured once with ``cdka.align`` on one batch of the task; needs torch.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from cdka.align.measure import gradients_of
from cdka.align.request import AlignRequest
from cdka.paths import assets_dir

MODEL, TASK, LAYER, SIDE = "digits-vit@2602", "digits-flip", "vit.layers.0.attention.v_proj", 16


def largest(energy: np.ndarray) -> np.ndarray:
    """The indices of the SIDE largest values, in ascending order."""
    return np.sort(np.argsort(-energy)[:SIDE])


def main() -> None:
    request = AlignRequest(MODEL, TASK)
    gradient = gradients_of(request)[LAYER].astype(np.float64)
    rows, columns = largest((gradient**2).sum(axis=1)), largest((gradient**2).sum(axis=0))
    part = gradient[np.ix_(rows, columns)]
    weights = (assets_dir() / MODEL / "model.safetensors").read_bytes()
    document = {
        "model": MODEL,
        "task": TASK,
        "layer": LAYER,
        "checkpoint": hashlib.sha256(weights).hexdigest()[:12],
        "batch_size": request.batch_size,
        "seed": request.seed,
        "shape": list(gradient.shape),
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "share": round(float((part**2).sum() / (gradient**2).sum()), 3),
        "values": (part / np.linalg.norm(part)).round(5).tolist(),
    }
    (assets_dir() / "learn" / "gradient.json").write_text(json.dumps(document) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
