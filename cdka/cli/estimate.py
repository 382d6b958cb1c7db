"""The flags ``--plan`` and ``--time``: what runs will take on this machine, and runs that are made to fit a time."""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import psutil

from cdka.cost.time import PHASE_WORDS, TimeTooShort
from cdka.errors import CdkaError
from cdka.formatting import clock, plural
from cdka.runs.resolve import ResolvedRun
from cdka.runs.store import Store
from cdka.sweep.forecast import Forecast, forecast, measure_runs, time_settings
from cdka.terminal import print_json, print_message, print_table

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def add_estimate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--plan`` and ``--time``."""
    add = parser.add_argument
    add("--plan", dest="estimate", action="store_true", help="measure this machine, show time and memory, run nothing")
    add("--time", metavar="T", help="fit steps and judging into this time on this machine: 90s, 10m, 2h")


def seconds_of(text: str) -> float:
    """``10m`` as 600 seconds. Raises CdkaError for anything that is no time."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise CdkaError(f"--time takes a number of seconds, minutes or hours: got {text[:40]!r}. Example: --time 10m.")
    return float(found[1]) * _UNITS[found[2]]


def measure(runs: Sequence[ResolvedRun], store: Store, *, packs: bool = True) -> None:
    """Measure the speeds that are not known here yet, with a line for each phase."""
    last = None
    for progress in measure_runs(runs, store, packs=packs):
        if progress.get("phase") != last:
            last = progress["phase"]
            print_message(f"measuring this machine: {last}")


def fitted(
    runs: Sequence[ResolvedRun], store: Store, text: str, *, packs: bool = True, smaller_batches: bool = False
) -> dict[str, int]:
    """The settings with which all runs take about the time ``text`` together, measured on the first of them.

    ``smaller_batches`` is True where the batch size was left open. The time counts from the start of the command:
    what measuring took is left out of what the runs get. Where too little is left, while the whole time would have
    sufficed, the shortest run starts and its time is said: the measurement is kept, and made once.
    """
    seconds = seconds_of(text)
    measure(runs, store, packs=packs)
    spent = time.time() - psutil.Process().create_time()
    left = max(seconds - spent, seconds / 2)
    try:
        chosen = time_settings(runs, store, left, packs=packs, smaller_batches=smaller_batches)
    except TimeTooShort as short:
        if short.needs_s > seconds:
            raise
        print_message(
            f"measuring this machine, once, took {clock(spent)} of {text}: the shortest run takes "
            f"{clock(short.needs_s)} from here"
        )
        chosen = time_settings(runs, store, math.ceil(short.needs_s), packs=packs, smaller_batches=smaller_batches)
    listed = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in chosen.items())
    print_message(f"fitted to {text}: {listed}")
    return chosen


def show_estimate(runs: Sequence[ResolvedRun], store: Store, *, packs: bool = True, as_json: bool) -> int:
    """Print the time by phase, the memory and the warnings of the runs; nothing starts."""
    measure(runs, store, packs=packs)
    expected = forecast(runs, store, packs=packs)
    if as_json:
        print_json(expected.to_dict())
        return 0
    total = expected.time
    print_table(
        ["phase", "time", "share"],
        [
            [PHASE_WORDS[phase], clock(seconds), f"{seconds / sum(total.phases.values()):.0%}"]
            for phase, seconds in total.phases.items()
            if seconds
        ],
    )
    for line in _lines(expected):
        print_message(line)
    return 0


def _lines(expected: Forecast) -> list[str]:
    total, memory = expected.time, expected.memory_bytes
    jobs: list[Any] = [f"{plural(expected.runs, 'run')} in {plural(expected.jobs, 'job')}"]
    if total.low_s is not None and total.high_s is not None:
        jobs.append(f"{clock(total.low_s)} to {clock(total.high_s)} ({total.basis})")
    if memory is not None:
        jobs.append(f"about {memory / 1e9:.1f} GB" + ("" if expected.fits else ", more than this machine has"))
    return [", ".join(jobs), *expected.notes]
