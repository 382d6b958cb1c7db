"""One run as one row: chip, state, progress, validation first, sparkline. HTML strings from the store's record."""

from __future__ import annotations

import html
from collections.abc import Sequence

from app import parts, words
from app.finetune.feed import Track
from cdka.runs import record
from cdka.runs.record import Run

WORDS = {
    record.QUEUED: ("waiting", "wait"), record.STARTING: ("starting", "live"), record.RUNNING: ("running", "live"),
    record.STOPPING: ("stopping", "live"), record.DONE: ("done", "good"), record.STOPPED: ("stopped, kept", "good"),
    record.CANCELLED: ("cancelled", "wait"), record.FAILED: ("failed", "bad"), record.LOST: ("lost", "bad"),
}  # fmt: skip
"""How each state is told, and its tone: wait, live, good or bad. The word carries the meaning, the colour helps."""


def sparkline(values: Sequence[float | None], steps: Sequence[int], total_steps: int) -> str:
    """A line of 96 by 22 pixels over the whole run, from 0 to 1; empty before the second point."""
    points = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if len(points) < 2 or not total_steps:
        return '<svg class="cdka-spark" viewBox="0 0 96 22" aria-hidden="true"></svg>'
    places = [(f"{96 * s / total_steps:.1f}", f"{21 - 20 * v:.1f}") for s, v in points]
    line, (x, y) = " ".join(f"{x},{y}" for x, y in places), places[-1]
    return (
        '<svg class="cdka-spark" viewBox="0 0 96 22" role="img" aria-label="validation accuracy so far">'
        f'<polyline points="{line}"/><circle cx="{x}" cy="{y}" r="2.2"/></svg>'
    )


def status_html(run: Run) -> str:
    """The state as a word with its tone, and the phase while a process is at work."""
    word, tone = WORDS[run.status]
    phase = f" · {run.phase}" if run.status == record.RUNNING and run.phase else ""
    return f'<span class="cdka-state {tone}">{word}{html.escape(phase)}</span>'


def progress_html(run: Run) -> str:
    """``120/200: 0:08 < 0:05`` over a bar; a finished run tells its time instead."""
    share = min(1.0, run.step / run.spec.steps)
    if run.status in record.LIVE:
        told = f"{run.step:,}/{run.spec.steps:,}: {words.clock(run.elapsed_s)} &lt; {words.clock(run.remaining_s)}"
    elif run.status == record.QUEUED:
        told = f"{run.spec.steps:,} steps to do"
    else:
        told = f"{run.step:,}/{run.spec.steps:,} steps in {words.duration(run.seconds)}"
    return (
        f'<span class="cdka-progress"><span class="bar" role="progressbar" aria-valuenow="{100 * share:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100"><b style="width:{100 * share:.1f}%"></b></span>{told}</span>'
    )


def score_html(run: Run, track: Track) -> str:
    """Validation accuracy first, its best beside it; test accuracy once the run is kept."""
    told = []
    if track.accuracies and track.accuracies[-1] is not None:
        told.append(f"<b>{track.accuracies[-1]:.3f}</b> validation")
        best = track.best
        if best and best[0] > track.accuracies[-1]:
            told.append(f"best {best[0]:.3f} at step {best[1]}")
    if (test := run.metrics.get("accuracy")) is not None:
        told.append(f"{test:.3f} test")
    return " · ".join(told) or '<span class="cdka-quiet">no evaluation yet</span>'


def effort_html(run: Run) -> str:
    """Parameters, speed and memory, as far as they are known."""
    told = []
    if run.num_params is not None:
        told.append(parts.count_html(run.num_params, "parameters"))
    if run.status in record.LIVE and run.samples_per_s:
        told.append(f"{run.samples_per_s:,.0f} samples/s")
    if run.peak_bytes:
        told.append(f"peak {words.size(run.peak_bytes)}")
    return " · ".join(told)


def row_html(run: Run, track: Track) -> str:
    """The whole row."""
    hover = f"alpha {run.spec.alpha:g}, lr {run.spec.lr:g}, scaling {run.spec.scaling:.3g}" if run.spec.scaling else ""
    trouble = ""
    if run.error and run.status in (record.FAILED, record.LOST):
        trouble = f'<div class="cdka-error">{html.escape(run.error)}</div>'
    return (
        f'<div class="cdka-run"><div>{parts.method_chip_html(run.spec, hover)} <span class="cdka-quiet">seed '
        f"{run.spec.seed}</span> {status_html(run)}</div><div class='score'>{score_html(run, track)}"
        f"{sparkline(track.accuracies, track.eval_steps, run.spec.steps)}</div>"
        f'<div class="cdka-quiet">{progress_html(run)}</div><div class="cdka-quiet right">'
        f"{effort_html(run)}</div>{trouble}</div>"
    )
