"""Ratios of running times that can be trusted on a busy machine: interleaved, paired per round, with their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cdka.errors import CdkaError
from cdka.terminal import print_message

MIN_ROUNDS = 3
Cell = TypeVar("Cell")


@dataclass(frozen=True)
class Ratio:
    """Ratio of two durations: the median over paired rounds, with the quartiles."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return spread(self.to_dict())

    def to_dict(self) -> dict[str, float | int]:
        """Plain data for JSON."""
        return {"median": self.median, "low": self.low, "high": self.high, "rounds": self.rounds}


def spread(found: Mapping[str, float]) -> str:
    """``1.23 [1.10, 1.30]``: the median and the quartiles of what ``Ratio.to_dict`` made plain."""
    return f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    warmup: int = 3,
    limit_s: float | None = None,
    synchronise: Callable[[], object] | None = None,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Seconds per round of every candidate, measured in turn in one process.

    Each round runs every candidate once, in an order that rotates, so that a slow moment of the machine falls on
    all of them alike. ``synchronise`` is called before each clock reading; give ``torch.cuda.synchronize`` where
    the work is asynchronous. ``clock`` is the wall clock unless given; ``time.process_time`` leaves out the moments
    in which other programs had the processor, at the price of adding up threads. After ``limit_s`` seconds of wall time
    no round begins, once there are ``MIN_ROUNDS``; a first round that takes a quarter of it is all of the warm-up.
    Raises CdkaError unless there is at least one round and one candidate.
    """
    if rounds < 1 or not candidates:
        raise CdkaError(f"a measurement needs candidates and rounds: got {len(candidates)} and rounds={rounds}.")
    wait = synchronise or (lambda: None)
    now = clock or time.perf_counter
    names, began = list(candidates), time.perf_counter()

    def spent(share: float) -> bool:
        return limit_s is not None and time.perf_counter() - began > share * limit_s

    for i in range(warmup):
        if i and spent(0.25):
            break
        for name in names:
            candidates[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        if i >= MIN_ROUNDS and spent(1.0):
            break
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            wait()
            start = now()
            candidates[name]()
            wait()
            seconds[name].append(now() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], numerator: str, denominator: str) -> Ratio:
    """The ratio of two candidates' times, paired round by round."""
    paired = [a / b for a, b in zip(seconds[numerator], seconds[denominator], strict=True)]
    if len(paired) == 1:
        return Ratio(paired[0], paired[0], paired[0], 1)
    low, median, high = statistics.quantiles(paired, n=4, method="inclusive")
    return Ratio(median, low, high, len(paired))


def announced(cells: Sequence[tuple[str, Cell]]) -> Iterator[Cell]:
    """Each cell of a bench in turn, after a line with its name and the time that is left at the pace so far."""
    began = time.monotonic()
    for number, (title, cell) in enumerate(cells):
        pace = (time.monotonic() - began) / max(1, number)
        left = f", about {pace * (len(cells) - number):.0f} s left" if number else ""
        print_message(f"{number + 1}/{len(cells)} {title}{left}")
        yield cell
