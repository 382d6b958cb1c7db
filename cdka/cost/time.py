"""Estimated duration of runs, from runs that have been timed here before. Free of torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cdka.runs import frames
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT

REFERENCE_S = {
    ("digits-vit", "digits-flip"): 5e-4,
    ("digits-vit", "digits"): 5e-4,
    ("math-lm", "math-chain"): 1.3e-3,
    ("math-lm", "math"): 1.3e-3,
}
"""Seconds per sample trained on, one thread of a 2026 server CPU (ours): a first guess where nothing was timed yet."""
START_S = 3.5
"""Imports and loading of a cold worker on such a CPU (ours)."""


@dataclass(frozen=True)
class TimeEstimate:
    """Wall time of a set of runs, None where nothing comparable is known, and what the number rests on."""

    seconds: float | None
    basis: str


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
    ways = max(1, min(slots, len(specs)))
    rounds = math.ceil(len(specs) / ways)
    longest = total / len(specs) * rounds
    if known_runs == len(specs):
        runs = sum(rates[key][1] for key in {(s.model, s.task) for s in specs})
        return TimeEstimate(START_S + longest, f"timed on {runs} finished runs here")
    return TimeEstimate(START_S + longest, "a first guess: nothing was timed here yet")


def timed(runs: Sequence[Run]) -> pd.DataFrame:
    """The frame of ``runs`` with ``pack_size``: how many of them trained in the same process."""
    together = Counter(run.pack_id for run in runs if run.pack_id is not None)
    return frames.frame(runs).assign(pack_size=[together.get(run.pack_id, 1) for run in runs])


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
