"""Progress of a sweep: counts, share and time left. Numbers from runs, then HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdka import formatting
from cdka.cost.time import time_left_s
from cdka.runs.run import Run
from cdka.runs.states import KEPT, LIVE, RunState


@dataclass(frozen=True)
class Progress:
    """States of the runs of a sweep. ``share`` is in steps, ``remaining_s`` None where no speed is known yet."""

    total: int
    kept: int
    failed: int
    cancelled: int
    at_work: int
    share: float
    remaining_s: float | None

    @property
    def ended(self) -> bool:
        """True where nothing more will happen by itself."""
        return self.kept + self.failed + self.cancelled == self.total


def progress(runs: Sequence[Run]) -> Progress:
    """The progress of ``runs``; the time left is the one that every room shows."""
    steps = sum(run.spec.steps for run in runs)
    done = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
    share = done / steps if steps else 0.0

    def count(*statuses: str) -> int:
        return sum(run.status in statuses for run in runs)

    failed, cancelled = count(RunState.FAILED, RunState.LOST), count(RunState.CANCELLED)
    return Progress(len(runs), count(*KEPT), failed, cancelled, count(*LIVE), share, time_left_s(runs))


def progress_html(found: Progress) -> str:
    """``12 of 30 runs done · 4 at work · 0:40 left`` over a bar."""
    told = [f"{found.kept} of {formatting.plural(found.total, 'run')} done"]
    for number, word in ((found.failed, "failed"), (found.cancelled, "cancelled"), (found.at_work, "running")):
        if number:
            told.append(f"{number} {word}")
    if found.remaining_s is not None:
        told.append(f"{formatting.clock(found.remaining_s)} left")
    elif not found.ended:
        told.append("starting" if found.at_work else "waiting")
    return (
        f'<span class="cdka-progress sweep-progress"><span class="bar" role="progressbar" aria-label="runs done" '
        f'aria-valuenow="{100 * found.share:.0f}" aria-valuemin="0" aria-valuemax="100">'
        f'<b style="width:{100 * found.share:.1f}%"></b></span>{" · ".join(told)}</span>'
    )
