"""Numbers of runs of a pack that share a pass: all, half, or one at a time. Measured, not guessed.

Every way computes the same updates, so the trial costs nothing: its steps are ordinary training steps. Half a pack can
be faster than a whole one where its activations still fit the processor's cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

import torch

WARM_UP_STEPS, TRIAL_STEPS = 2, 3
SMALLEST = 4
"""A pack of fewer runs than twice this is not tried in halves."""

Item = TypeVar("Item")


def ways(size: int) -> list[int]:
    """Numbers of runs of a pack of ``size`` that may share a pass, in the order in which they are tried."""
    halves = [-(-size // 2)] if size >= 2 * SMALLEST else []
    return list(dict.fromkeys([size, *halves, 1]))


class PackSchedule:
    """Times the first steps of a pack of ``size`` runs each way, then keeps to the fastest.

    ``share`` is how many runs go through one pass; ``tried`` is False for a run alone; ``reported`` once the result is.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._device = device
        self._waiting = ways(size)
        self._times: dict[int, list[float]] = {share: [] for share in self._waiting}
        self._skipped = dict.fromkeys(self._waiting, 0)
        self.decided = size == 1
        self.tried = size > 1
        self.reported = False
        self.share = self._waiting.pop(0)

    @property
    def together(self) -> bool:
        """True where any two runs share a pass."""
        return self.share > 1

    def groups(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """The items that share a pass, pass by pass."""
        return [items[i : i + self.share] for i in range(0, len(items), self.share)]

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
        if self._skipped[self.share] < WARM_UP_STEPS:
            self._skipped[self.share] += 1
            return
        times = self._times[self.share]
        times.append(seconds)
        if len(times) < TRIAL_STEPS:
            return
        if self._waiting:
            self.share = self._waiting.pop(0)
        else:  # of equals the larger: it was tried first
            self.decided = True
            self.share = min(self._times, key=lambda share: median(self._times[share]))

    @property
    def packed_s(self) -> float:
        """Median seconds of an update in the fastest way in which runs share passes."""
        return min(median(times) for share, times in self._times.items() if share > 1)

    @property
    def separate_s(self) -> float:
        """Median seconds of an update when the runs take turns."""
        return median(self._times[1])

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
