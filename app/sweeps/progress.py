"""How far a sweep is: counts, share and time left. Numbers from runs, then HTML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from app import words
from cdka.runs.run import Run
from cdka.runs.states import KEPT, LIVE, RunState

TELLING = 0.03
"""Below this share of the work a pace is all loading, and no time is promised."""


@dataclass(frozen=True)
class Progress:
    """Where the runs of a sweep stand. ``share`` is in steps, ``remaining_s`` None where no pace is known yet."""

    total: int
    kept: int
    failed: int
    cancelled: int
    at_work: int
    share: float
    remaining_s: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.kept + self.failed + self.cancelled == self.total


def progress(runs: Sequence[Run], now: float | None = None) -> Progress:
    """The progress of ``runs``; the pace is that of all steps since the first start."""
    steps = sum(run.spec.steps for run in runs)
    done = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
    share = done / steps if steps else 0.0
    starts = [run.started_at for run in runs if run.started_at is not None]
    remaining = None
    if starts and TELLING <= share < 1:
        remaining = max(0.0, (now or time.time()) - min(starts)) * (1 - share) / share

    def count(*statuses: str) -> int:
        return sum(run.status in statuses for run in runs)

    failed, cancelled = count(RunState.FAILED, RunState.LOST), count(RunState.CANCELLED)
    return Progress(len(runs), count(*KEPT), failed, cancelled, count(*LIVE), share, remaining)


def progress_html(found: Progress) -> str:
    """``12 of 30 runs done · 4 at work · 0:40 left`` over a bar."""
    told = [f"{found.kept} of {words.plural(found.total, 'run')} done"]
    for number, word in ((found.failed, "failed"), (found.cancelled, "cancelled"), (found.at_work, "at work")):
        if number:
            told.append(f"{number} {word}")
    if found.remaining_s is not None:
        told.append(f"{words.clock(found.remaining_s)} left")
    elif not found.ended:
        told.append("starting" if found.at_work else "waiting")
    return (
        f'<span class="cdka-progress sweep-progress"><span class="bar" role="progressbar" aria-label="runs done" '
        f'aria-valuenow="{100 * found.share:.0f}" aria-valuemin="0" aria-valuemax="100">'
        f'<b style="width:{100 * found.share:.1f}%"></b></span>{" · ".join(told)}</span>'
    )
