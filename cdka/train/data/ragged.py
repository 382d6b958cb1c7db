"""Sequences of different lengths: stored without padding, padded batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


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

    def padded(self, fill: int, *, left: bool = False) -> torch.Tensor:
        """(n, longest) of 64-bit integers, ``fill`` where a sequence has ended (or, ``left``, not yet begun)."""
        longest = max(1, int(self.lengths.max())) if len(self) else 1
        out = torch.full((len(self), longest), fill, dtype=torch.long)
        for row in range(len(self)):
            tokens = self[row]
            start = longest - len(tokens) if left else 0
            out[row, start : start + len(tokens)] = tokens
        return out

    def mask(self, *, left: bool = False) -> torch.Tensor:
        """(n, longest) of ones where ``padded`` holds a token and zeros where it holds the fill."""
        longest = max(1, int(self.lengths.max())) if len(self) else 1
        place = torch.arange(longest)
        if left:
            place = place.flip(0)
        return (place < self.lengths.unsqueeze(1)).long()

    @staticmethod
    def _of_pieces(pieces: Sequence[torch.Tensor]) -> Ragged:
        lengths = torch.tensor([0, *map(len, pieces)])
        values = torch.cat(list(pieces)) if pieces else torch.empty(0, dtype=torch.int32)
        return Ragged(values, lengths.cumsum(0))
