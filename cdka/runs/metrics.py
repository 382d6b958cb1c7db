"""The names of metrics: the split that was judged, a slash, and the measure, as in ``eval/accuracy``.

``train`` is the batches trained on, ``eval`` the validation split, ``test`` the split that is read once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN_LOSS = "train/loss"
EVAL_ACCURACY, EVAL_LOSS = "eval/accuracy", "eval/loss"
TEST_ACCURACY, TEST_LOSS = "test/accuracy", "test/loss"
EVAL_BEST_ACCURACY = "eval/best_accuracy"

OLD_NAMES: Mapping[str, str] = {
    "accuracy": TEST_ACCURACY,
    "test_loss": TEST_LOSS,
    "test_examples": "test/examples",
    "unparsed": "test/unparsed",
    "f1": "test/f1",
    "matthews": "test/matthews",
    "validation_accuracy": EVAL_ACCURACY,
    "validation_loss": EVAL_LOSS,
    "validation_examples": "eval/examples",
    "best_validation_accuracy": EVAL_BEST_ACCURACY,
    "train_loss": TRAIN_LOSS,
}
"""The metrics of a finished run as 0.1.0 named them, and their names since. Homes and bundles are translated by it."""
_SPLITS = {"train": "training", "eval": "validation", "test": "test"}


def prefixed(split: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """``scores`` under the names of ``split``: ``{"f1": 0.5}`` becomes ``{"eval/f1": 0.5}``."""
    return {f"{split}/{name}": value for name, value in scores.items()}


def from_old_names(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run that 0.1.0 wrote, under today's names; names of today are left as they are."""
    return {OLD_NAMES.get(name, name): value for name, value in metrics.items()}


def with_old_names(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """``metrics`` and, in front, the same under the names of 0.1.0: what ``cdka run --json`` prints."""
    old = {name: metrics[new] for name, new in OLD_NAMES.items() if new in metrics}
    return {**old, **metrics}


def full_name(name: str, *, along_the_way: bool = False) -> str:
    """The metric that ``name`` means: itself, or what a short name of 0.1.0 stood for.

    ``accuracy`` is ``test/accuracy``, and ``eval/accuracy`` where a value ``along_the_way`` is asked for: the test
    split is read only at the end. ``loss`` is ``eval/loss``.
    """
    if name == "loss":
        return EVAL_LOSS
    return EVAL_ACCURACY if name == "accuracy" and along_the_way else OLD_NAMES.get(name, name)


def measure_of(name: str) -> str:
    """The measure without its split: ``accuracy`` of ``test/accuracy``."""
    return name.rpartition("/")[2]


def words_of(name: str) -> str:
    """``eval/best_accuracy`` as ``best validation accuracy``; a name without a split with spaces for underscores."""
    split, slash, measure = name.partition("/")
    measure = (measure if slash else split).replace("_", " ")
    if not slash:
        return measure
    best = "best " if measure.startswith("best ") else ""
    return f"{best}{_SPLITS.get(split, split)} {measure.removeprefix('best ')}"
