"""The data of a task in memory: its splits, as tensors, as text of varying length, or on disk until asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cdka.train.data.objectives import IGNORED, Objective


@dataclass(frozen=True)
class Padding:
    """Batches of text are as wide as their longest example, rounded up to a ``multiple`` of tokens, ``most`` at most.

    Rounded, many batches have the same width: oneDNN keeps code and memory for every width that it has met. (ours)
    """

    multiple: int = 1
    most: int = 0

    def width(self, longest: int) -> int:
        """The width of a batch whose longest example has ``longest`` tokens, at least 1."""
        rounded = -(-longest // self.multiple) * self.multiple
        return max(1, longest, min(rounded, self.most))


NO_PADDING = Padding()
"""A batch is as wide as its longest example."""
MIN_MULTIPLES = 5
"""A mean example is at least so many multiples long: rounding adds half a multiple on average."""


@dataclass(frozen=True)
class Ragged:
    """n integer sequences end to end: ``values`` (total,) and ``offsets`` (n + 1,)."""

    values: torch.Tensor
    offsets: torch.Tensor

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Ragged:
        """The sequences as one store of 32-bit integers."""
        lengths = torch.tensor([0, *map(len, sequences)])
        flat = [token for sequence in sequences for token in sequence]
        return cls(torch.tensor(flat, dtype=torch.int32), lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) how long each sequence is."""
        return self.offsets.diff()

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: torch.Tensor) -> Ragged:
        """The sequences at ``rows``, in that order."""
        return self._of_pieces([self[row] for row in rows.tolist()])

    def join(self, others: Sequence[Ragged]) -> Ragged:
        """These sequences, then those of the others."""
        return self._of_pieces([part[row] for part in (self, *others) for row in range(len(part))])

    def followed_by(self, other: Ragged) -> Ragged:
        """Each sequence continued by the one at the same row of ``other``."""
        return self._of_pieces([torch.cat([self[row], other[row]]) for row in range(len(self))])

    def padded(self, fill: int, padding: Padding = NO_PADDING, *, left: bool = False) -> torch.Tensor:
        """(n, width) of 64-bit integers, ``fill`` where a sequence has ended (or, ``left``, not yet begun)."""
        width = self._width(padding)
        out = torch.full((len(self), width), fill, dtype=torch.long)
        for row in range(len(self)):
            tokens = self[row]
            start = width - len(tokens) if left else 0
            out[row, start : start + len(tokens)] = tokens
        return out

    def mask(self, padding: Padding = NO_PADDING, *, left: bool = False) -> torch.Tensor:
        """(n, width) of ones where ``padded`` holds a token and zeros where it holds the fill."""
        place = torch.arange(self._width(padding))
        if left:
            place = place.flip(0)
        return (place < self.lengths.unsqueeze(1)).long()

    def _width(self, padding: Padding) -> int:
        return padding.width(int(self.lengths.max()) if len(self) else 0)

    @staticmethod
    def _of_pieces(pieces: Sequence[torch.Tensor]) -> Ragged:
        lengths = torch.tensor([0, *map(len, pieces)])
        values = torch.cat(list(pieces)) if pieces else torch.empty(0, dtype=torch.int32)
        return Ragged(values, lengths.cumsum(0))


@dataclass(frozen=True)
class Split:
    """Examples as tensors: model inputs by name, each (n, ...), labels (n, ...), and the examples' own numbers (n,)."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    ids: np.ndarray

    num_tokens = None
    """These are not made of tokens."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: torch.Tensor) -> Split:
        """The examples at ``rows``, in that order."""
        return Split({k: v[rows] for k, v in self.inputs.items()}, self.labels[rows], self.ids[rows.numpy()])

    def select(self, rows: torch.Tensor) -> Split:
        """A split of these examples alone."""
        return self.take(rows)

    def join(self, others: Sequence[Split]) -> Split:
        """These examples, then those of the others."""
        parts = (self, *others)
        inputs = {name: torch.cat([part.inputs[name] for part in parts]) for name in self.inputs}
        return Split(inputs, torch.cat([part.labels for part in parts]), np.concatenate([part.ids for part in parts]))


@dataclass(frozen=True)
class PictureInputs:
    """The pictures that go with the rows of a text split, opened when a batch's inputs are asked for.

    ``read(rows)`` returns the model inputs of those rows, each (n, ...).
    """

    rows: np.ndarray
    read: Callable[[np.ndarray], dict[str, torch.Tensor]]

    def take(self, rows: torch.Tensor) -> PictureInputs:
        """The pictures at ``rows``, in that order."""
        return replace(self, rows=self.rows[rows.numpy()])

    def join(self, others: Sequence[PictureInputs]) -> PictureInputs:
        """These pictures, then those of the others, which are read in the same way."""
        return replace(self, rows=np.concatenate([part.rows for part in (self, *others)]))

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The model inputs, read now."""
        return self.read(self.rows)


@dataclass(frozen=True)
class TextSplit:
    """Examples as token sequences, padded only as far as the batch at hand needs.

    ``source`` is what is read (a prompt, or the text to classify) and ``target`` what is to be written, with its end
    mark; a text to classify has ``classes`` (n,) in place of a target. ``kind`` is the kind of model it is laid out
    for: a causal model reads source and target as one sequence and is judged on the target; an encoder-decoder reads
    the source and writes the target. ``references`` are the right answers as they are compared, one per example;
    ``pictures`` are those that the examples are about, one each. ``padding`` is that of what is read and judged.
    """

    kind: str
    source: Ragged
    ids: np.ndarray
    pad_id: int
    target: Ragged | None = None
    classes: torch.Tensor | None = None
    segments: Ragged | None = None
    references: tuple[Any, ...] = ()
    decoder_start_id: int = 0
    pictures: PictureInputs | None = None
    padding: Padding = NO_PADDING

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_tokens(self) -> int:
        """The tokens of source and target, padding left out."""
        return len(self.source.values) + (0 if self.target is None else len(self.target.values))

    def take(self, rows: torch.Tensor) -> TextSplit:
        """The examples at ``rows``, in that order."""
        chosen = {
            name: None if getattr(self, name) is None else getattr(self, name).take(rows)
            for name in ("source", "target", "segments", "pictures")
        }
        classes = None if self.classes is None else self.classes[rows]
        references = tuple(self.references[row] for row in rows.tolist()) if self.references else ()
        return replace(self, **chosen, classes=classes, references=references, ids=self.ids[rows.numpy()])

    def select(self, rows: torch.Tensor) -> TextSplit:
        """A split of these examples alone."""
        return self.take(rows)

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) tokens that the model reads of each example: source and target, or of an encoder-decoder the longer."""
        if self.target is None:
            return self.source.lengths
        if self.kind == "seq2seq":
            return torch.maximum(self.source.lengths, self.target.lengths)
        return self.source.lengths + self.target.lengths

    def join(self, others: Sequence[TextSplit]) -> TextSplit:
        """These examples, then those of the others, to be padded together."""
        joined = {
            name: None if getattr(self, name) is None else getattr(self, name).join([getattr(o, name) for o in others])
            for name in ("source", "target", "segments", "pictures")
        }
        parts = (self, *others)
        classes = None if self.classes is None else torch.cat([part.classes for part in parts])
        references = tuple(reference for part in parts for reference in part.references)
        ids = np.concatenate([part.ids for part in parts])
        return replace(self, **joined, classes=classes, references=references, ids=ids)

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The arguments of the model's forward, padded on the right as ``padding`` says."""
        if self.kind == "causal-lm":
            whole = self.source.followed_by(self.target)
            return {
                "input_ids": whole.padded(self.pad_id, self.padding),
                "attention_mask": whole.mask(self.padding),
                **self._pictures,
            }
        read = {
            "input_ids": self.source.padded(self.pad_id, self.padding),
            "attention_mask": self.source.mask(self.padding),
        }
        if self.kind == "seq2seq":
            written = self.target.padded(self.pad_id, self.padding)
            start = torch.full((len(self), 1), self.decoder_start_id)
            read["decoder_input_ids"] = torch.cat([start, written[:, :-1]], dim=1)
        elif self.segments is not None:
            read["token_type_ids"] = self.segments.padded(0, self.padding)
        return read

    @property
    def labels(self) -> torch.Tensor:
        """The classes (n,), or tokens (n, length) with IGNORED wherever nothing is judged: the mask of the loss."""
        if self.classes is not None:
            return self.classes
        if self.kind == "seq2seq":
            return self.target.padded(IGNORED, self.padding)
        unjudged = Ragged(torch.full_like(self.source.values, IGNORED), self.source.offsets)
        return unjudged.followed_by(self.target).padded(IGNORED, self.padding)

    @property
    def prompts(self) -> dict[str, torch.Tensor]:
        """The inputs of generation: padded on the left for a causal model, on the right for an encoder."""
        left = self.kind == "causal-lm"
        return {
            "input_ids": self.source.padded(self.pad_id, left=left),
            "attention_mask": self.source.mask(left=left),
            **self._pictures,
        }

    @property
    def _pictures(self) -> dict[str, torch.Tensor]:
        return {} if self.pictures is None else self.pictures.inputs


@dataclass(frozen=True)
class LazySplit:
    """Examples that are read when a batch is taken: ``read(rows)`` returns the model inputs of those rows."""

    labels: torch.Tensor
    ids: np.ndarray
    read: Callable[[torch.Tensor], dict[str, torch.Tensor]]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: torch.Tensor) -> Split:
        """The examples at ``rows``, read now."""
        return Split(self.read(rows), self.labels[rows], self.ids[rows.numpy()])

    def select(self, rows: torch.Tensor) -> LazySplit:
        """A split of these examples alone, still unread."""
        return LazySplit(self.labels[rows], self.ids[rows.numpy()], lambda chosen: self.read(rows[chosen]))


AnySplit = Split | TextSplit | LazySplit


@dataclass(frozen=True)
class TaskData:
    """Train, validation and test splits with the objective they share.

    Curves and choices use ``validation``; ``test`` is read once, at the end of a run. ``kind`` is the kind of model
    that the data were laid out for, where the task leaves it to the model (None: the task's own). ``notes`` are
    things a person should know before trusting the numbers: what was cut, left out or drawn at random. ``max_length``
    is in tokens, None where the data are none. ``overlong`` training examples were longer: cut, or left out.
    """

    train: AnySplit
    validation: AnySplit
    test: AnySplit
    objective: Objective
    num_labels: int | None = None
    kind: str | None = None
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    max_length: int | None = None
    overlong: int = 0

    def in_few_widths(self) -> TaskData:
        """The same data in batches of few different widths, where that adds a tenth to their tokens at most."""
        if not isinstance(self.train, TextSplit) or self.max_length is None or not len(self.train):
            return self
        mean = float(self.train.lengths.double().mean())
        multiple = next((size for size in (32, 16, 8) if mean >= MIN_MULTIPLES * size), 1)
        padding = Padding(multiple, self.max_length)
        splits = {name: getattr(self, name) for name in ("train", "validation", "test")}
        return replace(self, **{name: replace(split, padding=padding) for name, split in splits.items()})
