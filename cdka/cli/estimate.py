"""The flags ``--plan`` and ``--time``: what runs will take on this machine, and runs that are made to fit a time."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from cdka.errors import CdkaError
from cdka.formatting import clock
from cdka.runs.resolve import ResolvedRun
from cdka.runs.store import Store
from cdka.sweep.launch import Forecast, forecast, measure_runs, time_settings
from cdka.terminal import print_json, print_message, print_table

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
PHASE_WORDS = {
    "load": "load the model",
    "prepare": "prepare the data",
    "train": "train",
    "evaluate": "judge losses",
    "generate": "generate answers",
    "test": "test at the end",
    "save": "save",
}


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


def measure(runs: Sequence[ResolvedRun], store: Store) -> None:
    """Measure the speeds that are not known here yet, with a line for each phase."""
    last = None
    for progress in measure_runs(runs, store):
        if progress.get("phase") != last:
            last = progress["phase"]
            print_message(f"measuring this machine: {last}")


def fitted(runs: Sequence[ResolvedRun], store: Store, text: str) -> dict[str, int]:
    """The settings with which all runs take about the time ``text`` together, measured on the first of them."""
    seconds = seconds_of(text)
    measure(runs[:1], store)
    chosen = time_settings(runs[0], store, seconds, runs=len(runs))
    listed = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in chosen.items())
    print_message(f"fitted to {text}: {listed}")
    return chosen


def show_estimate(runs: Sequence[ResolvedRun], store: Store, *, packs: bool = True, as_json: bool) -> int:
    """Print the time by phase, the memory and the warnings of the runs; nothing starts."""
    measure(runs, store)
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
    time, memory = expected.time, expected.memory_bytes
    jobs: list[Any] = [f"{expected.runs} {'run' if expected.runs == 1 else 'runs'} in {expected.jobs} jobs"]
    if time.low_s is not None and time.high_s is not None:
        jobs.append(f"{clock(time.low_s)} to {clock(time.high_s)} ({time.basis})")
    if memory is not None:
        jobs.append(f"about {memory / 1e9:.1f} GB" + ("" if expected.fits else ", more than this machine has"))
    return [", ".join(jobs), *expected.notes]
