"""The adapter of each part of a batch: by name per sample, or as a pack of equal contiguous slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cdka.errors import CdkaError

BASE = "__base__"
"""The name that stands for the base model without any adapter, as in PEFT."""


@dataclass(frozen=True)
class Assignment:
    """A batch of ``units`` equal parts along its first dimension, served by one adapter after the other.

    ``runs`` names the adapter of each stretch of parts and its length. ``order`` lists the samples in the order in
    which the runs take them, None if that is how they come. ``flexible`` says that a part may be any whole number
    of samples, so that a layer that sees the batch flattened together with the sequence still knows its slices.
    """

    runs: tuple[tuple[str, int], ...]
    units: int
    order: tuple[int, ...] | None = None
    flexible: bool = False

    @classmethod
    def by_sample(cls, names: Sequence[str]) -> Assignment:
        """The assignment of PEFT's ``adapter_names``: one name per sample."""
        runs = [(name, len(list(same))) for name, same in groupby(names)]
        if len({name for name, _ in runs}) == len(runs):
            return cls(tuple(runs), len(names))
        order = sorted(range(len(names)), key=lambda i: names[i])
        ordered = cls.by_sample([names[i] for i in order])
        return cls(ordered.runs, len(names), tuple(order))

    @classmethod
    def pack(cls, names: Sequence[str]) -> Assignment:
        """The assignment of a pack: the batch is one equal contiguous slice per adapter, in this order."""
        return cls(tuple((name, 1) for name in names), len(names), flexible=True)

    @property
    def names(self) -> frozenset[str]:
        """The adapters at work, the base model not counted."""
        return frozenset(name for name, _ in self.runs) - {BASE}

    def check(self, size: int, where: str) -> None:
        """Raises CdkaError unless a first dimension of ``size`` can be divided into the parts."""
        if self.flexible and size % self.units:
            raise CdkaError(
                f"the batch of a pack must be equal slices, one per adapter: got a first dimension of {size} for "
                f"{self.units} adapters in {where}. Give every run the same number of samples."
            )
        if not self.flexible and size != self.units:
            raise CdkaError(  # opens as PEFT's refusal does, which programs look for
                f"Length of `adapter_names` should be the same as the number of inputs, but got {self.units} and "
                f"{size} respectively in {where}. Where a model flattens the batch before this layer, use "
                "cdka.adapter.packed instead."
            )
