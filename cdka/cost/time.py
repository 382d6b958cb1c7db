"""The time that runs take: estimated before they start, and left while they are at work. Free of torch. (ours)

Before a start the estimate rests on a measurement of this machine (``cost.measurement``), else on finished runs of the
same model and task, else on a first guess. While runs are at work it rests on their own speed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd

from cdka.runs import frames
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT, RunState

REFERENCE_S = {
    ("digits-vit", "digits-flip"): 5e-4,
    ("digits-vit", "digits"): 5e-4,
    ("math-lm", "math-chain"): 1.3e-3,
    ("math-lm", "math"): 1.3e-3,
}
"""Seconds per sample trained on, one thread of a 2026 server CPU (ours): a first guess where nothing was timed yet."""
START_S = 3.5
"""Imports and loading of a cold worker on such a CPU (ours)."""
TIMED_TOLERANCE, GUESSED_TOLERANCE = 0.3, 1.0
"""Relative half-width of the range around an estimate from finished runs, and around a first guess."""
MIN_SHARE = 0.03
"""Below this share of the work the speed of a set of runs is all loading, and no time left is stated."""


@dataclass(frozen=True)
class TimeEstimate:
    """Wall time of a set of runs in seconds, None where nothing comparable is known, and its ``basis``.

    ``low_s`` to ``high_s`` is the range that the basis allows. ``phases`` holds the seconds of each phase of a run,
    summed over the runs, where they are known.
    """

    seconds: float | None
    basis: str
    tolerance: float = TIMED_TOLERANCE
    phases: Mapping[str, float] = field(default_factory=dict)

    @property
    def low_s(self) -> float | None:
        """The lower end of the range."""
        return None if self.seconds is None else self.seconds / (1 + self.tolerance)

    @property
    def high_s(self) -> float | None:
        """The upper end of the range."""
        return None if self.seconds is None else self.seconds * (1 + self.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "seconds": None if self.seconds is None else {"low": round(self.low_s, 1), "high": round(self.high_s, 1)},
            "phases": {phase: round(seconds, 2) for phase, seconds in self.phases.items()},
            "basis": self.basis,
        }


def estimate_time(specs: Sequence[RunSpec], history: pd.DataFrame | None = None, *, slots: int = 1) -> TimeEstimate:
    """The wall time of ``specs`` over ``slots`` processes at a time.

    ``history`` is that of ``timed``: finished runs of the same model and task give seconds per sample (their median).
    Time is taken to grow with steps x batch size.
    """
    rates = _rates(history)
    total, known_runs = 0.0, 0
    for spec in specs:
        known = rates.get((spec.model, spec.task))
        rate = known[0] if known else REFERENCE_S.get((spec.model, spec.task))
        if rate is None:
            return TimeEstimate(None, f"no run of {spec.model} on {spec.task} has been timed yet")
        known_runs += known is not None
        total += rate * spec.steps * spec.batch_size
    if not specs:
        return TimeEstimate(0.0, "nothing to run")
    seconds = START_S + in_parallel(total, len(specs), slots)
    if known_runs == len(specs):
        runs = sum(rates[key][1] for key in {(s.model, s.task) for s in specs})
        return TimeEstimate(seconds, f"timed on {runs} finished {'run' if runs == 1 else 'runs'} here")
    return TimeEstimate(seconds, "a first guess: nothing was timed here yet", GUESSED_TOLERANCE)


def in_parallel(total_s: float, runs: int, slots: int) -> float:
    """Wall time of ``runs`` equal runs of ``total_s`` seconds together, ``slots`` of them at a time."""
    at_once = max(1, min(slots, runs))
    return total_s / runs * math.ceil(runs / at_once)


def timed(runs: Sequence[Run]) -> pd.DataFrame:
    """The frame of ``runs`` with ``pack_size``: how many of them trained in the same process."""
    together = Counter(run.pack_id for run in runs if run.pack_id is not None)
    return frames.frame(runs).assign(pack_size=[together.get(run.pack_id, 1) for run in runs])


def time_left_s(runs: Sequence[Run]) -> float | None:
    """Seconds until the last of ``runs`` is expected to end; None before there is any speed to go by, and at the end.

    Waiting runs are taken to go at the mean speed of the others on their model and task, as many at once as are at
    work now.
    """
    live = [run for run in runs if run.status.is_live()]
    waiting = [run for run in runs if run.status == RunState.QUEUED]
    steps = sum(run.spec.steps for run in runs)
    done = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
    if (not live and not waiting) or done < MIN_SHARE * steps:
        return None
    speeds: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if (seconds := _seconds_per_step(run)) is not None:
            speeds.setdefault((run.spec.model, run.spec.task), []).append(seconds)
    if not speeds:
        return None
    overall = fmean(seconds for some in speeds.values() for seconds in some)
    work = [
        run.remaining_s if run.remaining_s is not None else run.spec.steps * _mean(speeds, run, overall)
        for run in (*live, *waiting)
    ]
    return max(sum(work) / max(1, len(live)), max(work))


def _seconds_per_step(run: Run) -> float | None:
    steps = run.step - run.first_step
    if steps <= 0:
        return None
    if run.status.is_kept():
        return run.seconds / steps if run.seconds else None
    return run.elapsed_s / steps if run.elapsed_s else None


def _mean(speeds: dict[tuple[str, str], list[float]], run: Run, otherwise: float) -> float:
    own = speeds.get((run.spec.model, run.spec.task))
    return fmean(own) if own else otherwise


def _rates(history: pd.DataFrame | None) -> dict[tuple[str, str], tuple[float, int]]:
    """Median seconds per sample and number of runs behind it, by model and task."""
    if history is None or not {"training_s", "steps_done"} <= set(history.columns):
        return {}
    kept = history[history["status"].isin(KEPT) & (history["steps_done"] > 0)]
    # The clock of a pack runs for all its members at once: each one's share is what it costs.
    seconds = kept["training_s"].astype(float) / kept.get("pack_size", 1)
    rate = seconds / (kept["steps_done"].astype(float) * kept["batch_size"].astype(float))
    grouped = rate.groupby([kept["model"], kept["task"]])
    return {key: (float(values.median()), len(values)) for key, values in grouped}
