"""Whether the runs of a pack share their passes or take turns on the resident base: measured, not guessed.

Both ways compute the same updates, so the trial costs nothing: its steps are ordinary training steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

import torch

WARM_UP_STEPS, TRIAL_STEPS = 2, 3

Item = TypeVar("Item")


class Pace:
    """Times the first steps of a pack of ``size`` runs both ways, then keeps to the faster."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._device = device
        self._times: dict[bool, list[float]] = {True: [], False: []}
        self._skipped = {True: 0, False: 0}
        self.decided = size == 1
        self.together = True

    def groups(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """The items that share a pass, pass by pass."""
        return [items] if self.together else [[item] for item in items]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one update of the whole pack: takes the time while it is still to be decided."""
        if self.decided:
            yield
            return
        self._synchronise()
        started = time.perf_counter()
        yield
        self._synchronise()
        self._note(time.perf_counter() - started)

    def _note(self, seconds: float) -> None:
        if self._skipped[self.together] < WARM_UP_STEPS:
            self._skipped[self.together] += 1
            return
        times = self._times[self.together]
        times.append(seconds)
        if len(times) == TRIAL_STEPS:
            if self.together:
                self.together = False
            else:
                self.decided = True
                self.together = self.packed_s <= self.separate_s

    @property
    def packed_s(self) -> float:
        """Median seconds of an update when all runs share one pass."""
        return median(self._times[True])

    @property
    def separate_s(self) -> float:
        """Median seconds of an update when the runs take turns."""
        return median(self._times[False])

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
