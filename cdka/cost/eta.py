"""Time left for a set of runs, from the speed of those that have trained and those at work. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from cdka.runs.run import Run
from cdka.runs.states import RunState


def time_left_s(runs: Sequence[Run]) -> float | None:
    """Seconds until the last of ``runs`` is expected to end; None before there is any pace to go by, and at the end.

    Waiting runs are taken to go at the mean pace of the others on their model and task, as many at once as are at
    work now.
    """
    live = [run for run in runs if run.status.is_live()]
    waiting = [run for run in runs if run.status == RunState.QUEUED]
    if not live and not waiting:
        return None
    paces: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if (pace := _seconds_per_step(run)) is not None:
            paces.setdefault((run.spec.model, run.spec.task), []).append(pace)
    if not paces:
        return None
    overall = fmean(pace for some in paces.values() for pace in some)
    work = [
        run.remaining_s if run.remaining_s is not None else run.spec.steps * _mean(paces, run, overall)
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


def _mean(paces: dict[tuple[str, str], list[float]], run: Run, otherwise: float) -> float:
    own = paces.get((run.spec.model, run.spec.task))
    return fmean(own) if own else otherwise
