"""The time that runs take: estimated before they start, and left while they are at work. Free of torch. (ours)

Before a start the estimate rests on a measurement of this machine (``cost.measurement``), else on finished runs of the
same model and task, else on a first guess. While runs are at work it rests on their own speed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cdka.cost.judging import MIN_EXAMPLES, looks_of
from cdka.cost.measurement import Measurement
from cdka.errors import CdkaError
from cdka.runs.run import Run
from cdka.runs.spec import AUTO, RunSpec
from cdka.runs.states import KEPT, RunState

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_S = {
    ("digits-vit", "digits-flip"): 5e-4,
    ("digits-vit", "digits"): 5e-4,
    ("math-lm", "math-chain"): 1.3e-3,
    ("math-lm", "math"): 1.3e-3,
}
"""Seconds per sample trained on, one thread of a 2026 server CPU (ours): a first guess where nothing was timed yet."""
START_S = 3.5
"""Imports and loading of a cold worker on such a CPU (ours)."""
MEASURED_TOLERANCE, TIMED_TOLERANCE, GUESSED_TOLERANCE = 0.25, 0.3, 1.0
"""Relative half-width of the range around an estimate: measured, from finished runs, and a first guess."""
SAVE_S = 1.0
"""Saving an adapter and its metrics."""
PHASES = ("load", "prepare", "train", "evaluate", "generate", "test", "save")
"""The phases of a run, in this order."""
PHASE_WORDS = {
    "load": "load the model",
    "prepare": "prepare the data",
    "train": "train",
    "evaluate": "judge losses",
    "generate": "generate answers",
    "test": "test at the end",
    "save": "save",
}
GOOD_STEPS, MIN_BATCH = 40, 4
"""A short time is rather spent on so many steps than on large batches, but on no smaller ones than these, unless the
time does not suffice for ``MIN_LOOKS`` steps otherwise."""
ONCE_A_JOB = ("load", "prepare")
"""Phases that the runs of a pack share."""
MIN_LOOKS, MAX_STEPS = 5, 1_000_000
"""A run that is fitted to a time has at least so many looks at its validation split, and at most so many steps."""
MIN_FITTED = {"eval": 16, "generate": 0, "test": 8}
"""A short time is spent on training: fewer examples are judged than ``auto`` would, but never fewer than these. Answers
may then be generated at the end alone."""
MIN_SHARE = 0.03
"""Below this share of the work the speed of a set of runs is all loading, and no time left is stated."""


class TimeTooShort(CdkaError):
    """A time that does not suffice for the shortest run that is worth its name, which takes ``needs_s``."""

    def __init__(self, message: str, needs_s: float) -> None:
        super().__init__(message)
        self.needs_s = needs_s


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
        rate = known[0] if known else REFERENCE_S.get((spec.model.partition("@")[0], spec.task))
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


def phases_of(spec: RunSpec, measurement: Measurement, least: Mapping[str, int] = MIN_EXAMPLES) -> dict[str, float]:
    """The seconds of each phase of one run of this measured speed."""
    costs, judging = measurement.costs, measurement.judging(spec, least)
    looks, generates = looks_of(spec), measurement.generates
    auto = AUTO in (spec.eval_examples, spec.generate_examples, spec.test_examples)
    return {
        "load": measurement.load_s,
        "prepare": measurement.prepare_s + (measurement.measure_s if auto else 0.0),
        "train": spec.steps * costs.step_s,
        "evaluate": costs.judging_s("eval", judging.eval, looks, generates=generates) + 2 * measurement.retained_s,
        "generate": costs.judging_s("generate", judging.generate, looks, generates=generates),
        "test": costs.judging_s("test", judging.test, looks, generates=generates),
        "save": SAVE_S,
    }


def estimate_measured(
    jobs: Sequence[Sequence[tuple[RunSpec, Measurement]]], *, slots: int = 1, engine_ready: bool = False
) -> TimeEstimate:
    """The wall time of ``jobs`` over ``slots`` processes at a time: runs with the measurements of their speed.

    Unless the engine is ready, it starts first, which takes as long as any fresh process. The runs of one job share its
    loading and its data, and are taken to train as fast as apart: packs gain on small models alone.
    """
    phases = dict.fromkeys(PHASES, 0.0)
    seconds = []
    for job in jobs:
        total = 0.0
        for number, (spec, measurement) in enumerate(job):
            for phase, taken in phases_of(spec, measurement).items():
                if number == 0 or phase not in ONCE_A_JOB:
                    phases[phase] += taken
                    total += taken
        seconds.append(total)
    start_s = 0.0 if engine_ready else max((measurement.start_s for job in jobs for _, measurement in job), default=0.0)
    phases["load"] += start_s
    total_s = start_s + makespan(seconds, slots)
    return TimeEstimate(total_s, "measured on this machine", MEASURED_TOLERANCE, phases)


def fit_to_time(
    spec: RunSpec,
    measurement: Measurement,
    seconds: float,
    *,
    jobs: Sequence[int] = (1,),
    slots: int = 1,
    smaller_batches: bool = False,
    engine_ready: bool = False,
) -> dict[str, int]:
    """The settings with which runs of this measured speed take about ``seconds``: steps, looks and judged examples.

    ``jobs`` are the numbers of runs that share a process, ``slots`` the processes at a time. Training takes what
    loading, preparing and judging leave; there are at least five looks; numbers of examples that the spec names stay.
    With ``smaller_batches`` the batch is halved, down to four examples, until the time suffices for ``GOOD_STEPS``
    steps, and further only until it suffices for five: an update is taken to cost as much per example. Raises
    TimeTooShort where it does not suffice for five steps.
    """
    sizes = [spec.batch_size]
    while smaller_batches and sizes[-1] >= 2:
        sizes.append(sizes[-1] // 2)
    for size in sizes:
        costs = replace(measurement.costs, step_s=measurement.costs.step_s * size / spec.batch_size)
        scaled = replace(measurement, costs=costs)
        found = _fitted(spec.with_(batch_size=size), scaled, seconds, jobs, slots, engine_ready, last=size == sizes[-1])
        if found is not None and (found["steps"] >= GOOD_STEPS or size < 2 * MIN_BATCH or size == sizes[-1]):
            return found if size == spec.batch_size else {"batch_size": size, **found}
    raise AssertionError("the smallest batch fits or is refused")


def _fitted(
    spec: RunSpec,
    measurement: Measurement,
    seconds: float,
    jobs: Sequence[int],
    slots: int,
    engine_ready: bool,
    *,
    last: bool,
) -> dict[str, int] | None:
    """The settings for this batch size; None where the time is too short for it, which is refused if it is the last."""
    asked = {name: getattr(spec, name) for name in ("eval_examples", "generate_examples", "test_examples")}
    auto = {name: value if isinstance(value, int) else AUTO for name, value in asked.items()}
    once = measurement.load_s + measurement.prepare_s
    start_s = 0.0 if engine_ready else measurement.start_s

    def with_steps(steps: int) -> RunSpec:
        return spec.with_(steps=steps, eval_every=max(1, steps // MIN_LOOKS), **auto)

    def takes(steps: int) -> float:
        phases = phases_of(with_steps(steps), measurement, MIN_FITTED)
        each = sum(taken for phase, taken in phases.items() if phase not in ONCE_A_JOB)
        return start_s + makespan([once + runs * each for runs in jobs], slots)

    if takes(MIN_LOOKS) > seconds:
        if not last:
            return None
        raise TimeTooShort(
            f"the time must suffice for {MIN_LOOKS} steps and their judging: got {seconds:.0f} s, and here they take "
            f"{takes(MIN_LOOKS):.0f} s, {start_s + once + SAVE_S:.0f} s of them to load and prepare. Give more time, "
            "or a smaller batch size.",
            takes(MIN_LOOKS),
        )
    low, high = MIN_LOOKS, MAX_STEPS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if takes(middle) <= seconds else (low, middle - 1)
    chosen = with_steps(low)
    judging = measurement.judging(chosen, MIN_FITTED)
    return {
        "steps": low,
        "eval_every": chosen.eval_every,
        "eval_examples": judging.eval,
        "test_examples": judging.test,
        **({"generate_examples": judging.generate} if measurement.generates else {}),
    }


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Wall time of jobs of these lengths, started in their order as one of ``slots`` places becomes free."""
    ends = [0.0] * max(1, slots)
    for length in seconds:
        ends[ends.index(min(ends))] += length
    return max(ends)


def in_parallel(total_s: float, runs: int, slots: int) -> float:
    """Wall time of ``runs`` equal runs of ``total_s`` seconds together, ``slots`` of them at a time."""
    at_once = max(1, min(slots, runs))
    return total_s / runs * math.ceil(runs / at_once)


def timed(runs: Sequence[Run]) -> pd.DataFrame:
    """The frame of ``runs`` with ``pack_size``: how many of them trained in the same process."""
    from cdka.runs import frames

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
