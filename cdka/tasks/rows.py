"""The rows of a task before any model has seen them: what each task module returns from ``read``. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cdka.tasks.scores import Judge, Scores

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "validation", "test")


ROLES = ("system", "user", "assistant")
"""The speakers of a conversation, as chat templates name them."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; ``role`` is one of ``ROLES``. ``learned`` is False for an answer that is context."""

    role: str
    content: str
    learned: bool = True


@dataclass(frozen=True)
class Instruction:
    """A prompt, the answer to learn, and ``reference``: the part of the answer that is compared.

    ``messages`` is the conversation before the answer, where the data are one: it ends with a user's turn, and
    ``answer`` is the assistant's reply to it. ``prompt`` is then the same conversation as plain text, for a model
    without a chat template.
    """

    prompt: str
    answer: str
    reference: Any
    id: int
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, and the number of its label."""

    text: str
    label: int
    id: int
    pair: str | None = None


@dataclass(frozen=True)
class Measured:
    """A text, or a pair of texts, and the number to predict."""

    text: str
    value: float
    id: int
    pair: str | None = None


Row = TypeVar("Row", Instruction, Labelled, Measured)
SplitRows = Mapping[str, Sequence[Row]]
"""The rows of each split: train, validation, test."""


@dataclass(frozen=True)
class InstructionRows:
    """Prompts with answers, for a generative model. ``judge`` compares generated texts with the references.

    At most ``max_new_tokens`` are generated; None takes what 95 of 100 answers to learn fit in, up to a limit.
    """

    splits: SplitRows[Instruction]
    judge: Judge
    max_new_tokens: int | None
    scores: Scores | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextRows:
    """Texts without labels, to be continued: the next token is what is learned."""

    splits: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledRows:
    """Texts with class numbers. ``prefix`` goes before the text for an encoder-decoder, which generates the name."""

    splits: SplitRows[Labelled]
    label_names: tuple[str, ...]
    prefix: str = ""
    scores: Scores | None = None
    notes: tuple[str, ...] = ()
    named_scores: Scores | None = None
    """Further metrics that are computed from label names instead of numbers."""


@dataclass(frozen=True)
class MeasuredRows:
    """Texts with numbers: a regression."""

    splits: SplitRows[Measured]
    scores: Scores | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureSplit:
    """Pictures that are opened when a batch needs them: ``open(i)`` returns the i-th one, with class ``labels[i]``."""

    labels: Sequence[int]
    ids: np.ndarray
    open: Callable[[int], Image]


@dataclass(frozen=True)
class PictureRows:
    """Pictures with class numbers, in any size; the model's own preprocessing makes pixels of them."""

    splits: Mapping[str, PictureSplit]
    label_names: tuple[str, ...]
    scores: Scores | None = None
    notes: tuple[str, ...] = ()
    named_scores: Scores | None = None


@dataclass(frozen=True)
class PictureTextRows:
    """Instructions about pictures, for a model that sees and writes: ``open(row)`` returns a row's picture."""

    splits: SplitRows[Instruction]
    open: Callable[[Instruction], Image]
    judge: Judge
    max_new_tokens: int | None
    scores: Scores | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PixelSplit:
    """Pictures as arrays: ``pixels`` (n, channels, height, width) as the model reads them, ``labels`` (n,)."""

    pixels: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class PixelRows:
    """Small pictures that fit in memory, already in the model's size and range."""

    splits: Mapping[str, PixelSplit]
    num_labels: int
    notes: tuple[str, ...] = ()


TaskRows = InstructionRows | TextRows | LabelledRows | MeasuredRows | PictureRows | PixelRows | PictureTextRows
