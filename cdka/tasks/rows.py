"""Rows of text before any model has seen them. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Instruction:
    """A prompt, the answer to learn, and ``reference``: the part of the answer that is compared."""

    prompt: str
    answer: str
    reference: Any
    id: int


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, and the number of its label."""

    text: str
    label: int
    id: int
    pair: str | None = None


Row = TypeVar("Row", Instruction, Labelled)
SplitRows = Mapping[str, Sequence[Row]]
"""The rows of each split: train, validation, test."""
