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
from typing import TYPE_CHECKING, Any

from cdka.cost.judging import MIN_EXAMPLES, Judging, affordable
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
MIN_LOOKS, MAX_STEPS = 5, 1_000_000
"""A run that is fitted to a time has at least so many looks at its validation split, and at most so many steps."""
MIN_FITTED = {"eval": 16, "generate": 2, "test": 8}
"""A short time is spent on training: fewer examples are judged than ``auto`` would, but never fewer than these."""
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


def judging_of(spec: RunSpec, measurement: Measurement, least: Mapping[str, int] = MIN_EXAMPLES) -> Judging:
    """The examples that a run of this measured speed will judge, ``auto`` being at least ``least``."""
    sizes = {"eval": measurement.eval_of, "generate": measurement.eval_of, "test": measurement.test_of}
    if not measurement.generates:
        sizes["generate"] = 0
    asked = {"eval": spec.eval_examples, "generate": spec.generate_examples, "test": spec.test_examples}
    chosen = affordable(spec, asked, sizes, measurement.costs, generates=measurement.generates, least=least)
    return Judging(**chosen, eval_of=measurement.eval_of, test_of=measurement.test_of, costs=measurement.costs)


def phases_of(spec: RunSpec, measurement: Measurement, least: Mapping[str, int] = MIN_EXAMPLES) -> dict[str, float]:
    """The seconds of each phase of one run of this measured speed."""
    costs, judging = measurement.costs, judging_of(spec, measurement, least)
    looks = 1 + math.ceil(spec.steps / spec.eval_every)
    auto = AUTO in (spec.eval_examples, spec.generate_examples, spec.test_examples)
    per_test = costs.example_s + (costs.answer_s if measurement.generates else 0.0)
    return {
        "load": measurement.load_s,
        "prepare": measurement.prepare_s + (measurement.measure_s if auto else 0.0),
        "train": spec.steps * costs.step_s,
        "evaluate": looks * judging.eval * costs.example_s,
        "generate": looks * judging.generate * costs.answer_s,
        "test": judging.test * per_test,
        "save": SAVE_S,
    }


def estimate_measured(specs: Sequence[RunSpec], measurements: Sequence[Measurement], *, slots: int = 1) -> TimeEstimate:
    """The wall time of ``specs`` over ``slots`` processes at a time, each with the measurement of its speed.

    Runs of a pack are taken to cost as much as apart: packs gain on small models alone.
    """
    phases = dict.fromkeys(PHASES, 0.0)
    for spec, measurement in zip(specs, measurements, strict=True):
        for phase, seconds in phases_of(spec, measurement).items():
            phases[phase] += seconds
    seconds = in_parallel(sum(phases.values()), len(specs), slots)
    return TimeEstimate(seconds, "measured on this machine", MEASURED_TOLERANCE, phases)


def fit_to_time(spec: RunSpec, measurement: Measurement, seconds: float) -> dict[str, int]:
    """The settings with which a run of this measured speed takes about ``seconds``: steps, looks and judged examples.

    Training takes what loading, preparing and judging leave; there are at least five looks. Raises CdkaError where
    the time does not suffice for five steps.
    """
    fixed = measurement.load_s + measurement.prepare_s + SAVE_S
    auto = dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), AUTO)

    def with_steps(steps: int) -> RunSpec:
        return spec.with_(steps=steps, eval_every=max(1, steps // MIN_LOOKS), **auto)

    def takes(steps: int) -> float:
        phases = phases_of(with_steps(steps), measurement, MIN_FITTED)
        return sum(phases.values()) - measurement.measure_s

    if takes(MIN_LOOKS) > seconds:
        least = takes(MIN_LOOKS)
        raise CdkaError(
            f"the time must suffice for {MIN_LOOKS} steps and their judging: got {seconds:.0f} s, and here they take "
            f"{least:.0f} s, {fixed:.0f} s of them to load and prepare. Give more time, or a smaller batch size."
        )
    low, high = MIN_LOOKS, MAX_STEPS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if takes(middle) <= seconds else (low, middle - 1)
    chosen = with_steps(low)
    judging = judging_of(chosen, measurement, MIN_FITTED)
    return {
        "steps": low,
        "eval_every": chosen.eval_every,
        "eval_examples": judging.eval,
        "test_examples": judging.test,
        **({"generate_examples": judging.generate} if measurement.generates else {}),
    }


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
