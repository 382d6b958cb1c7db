"""One run as one row: chip, state, progress, validation first, sparkline. HTML strings from the store's record."""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Sequence

from app import widgets
from app.finetune.feed import Track
from cdka import formatting
from cdka.runs.metrics import TEST_ACCURACY
from cdka.runs.run import Run
from cdka.runs.states import RunState

WORDS = {
    RunState.QUEUED: ("waiting", "wait"),
    RunState.STARTING: ("starting", "live"),
    RunState.RUNNING: ("running", "live"),
    RunState.STOPPING: ("stopping", "live"),
    RunState.DONE: ("done", "good"),
    RunState.STOPPED: ("stopped, kept", "good"),
    RunState.CANCELLED: ("cancelled", "wait"),
    RunState.FAILED: ("failed", "bad"),
    RunState.LOST: ("lost", "bad"),
}
"""Word and tone of each state: wait, live, good or bad. The word carries the meaning, the colour helps."""
SILENT_S = 60.0
"""A process that has said nothing for so long may hang, or be busy with a long evaluation: the reader is told."""
APART = ("model", "task", "target_modules", "lr", "alpha", "batch_size", "schedule", "scaling_rule", "dtype")
"""The settings that tell runs of one method and seed apart, in the order of their interest."""


def sparkline(values: Sequence[float | None], steps: Sequence[int], total_steps: int) -> str:
    """A line of 100 by 22 pixels over the whole run, from 0 to 1; empty before the second point."""
    points = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if len(points) < 2:
        return '<svg class="cdka-spark" viewBox="0 0 100 22" aria-hidden="true"></svg>'
    places = [(f"{2 + 95 * s / total_steps:.1f}", f"{19.5 - 17 * v:.1f}") for s, v in points]
    line, (x, y) = " ".join(f"{x},{y}" for x, y in places), places[-1]
    return (
        '<svg class="cdka-spark" viewBox="0 0 100 22" role="img" aria-label="validation accuracy so far">'
        f'<polyline points="{line}"/><circle cx="{x}" cy="{y}" r="2.2"/></svg>'
    )


def status_html(run: Run) -> str:
    """The state as a word with its tone; the phase while a process is at work, and how long it has been silent."""
    word, tone = WORDS[run.status]
    phase = f" · {run.phase}" if run.status == RunState.RUNNING and run.phase else ""
    silent = time.time() - run.heartbeat_at if run.status.is_live() and run.heartbeat_at else 0.0
    quiet = f' <span class="cdka-quiet">silent for {formatting.duration(silent)}</span>' if silent > SILENT_S else ""
    return f'<span class="cdka-state {tone}">{word}{html.escape(phase)}</span>{quiet}'


def apart(runs: Sequence[Run]) -> dict[str, str]:
    """For each run, in what it differs from the others beside method and seed: ``lr 0.01 · 200 steps``; else empty.

    Runs that were asked for twice differ in their name only.
    """
    settings = {run.run_id: run.spec.to_dict() for run in runs}
    varying = [name for name in APART if len({repr(one[name]) for one in settings.values()}) > 1]
    told = {run_id: " · ".join(setting_text(name, one[name]) for name in varying) for run_id, one in settings.items()}
    twins = Counter((run.spec.label, run.spec.seed, told[run.run_id]) for run in runs)
    for run in runs:
        if twins[run.spec.label, run.spec.seed, told[run.run_id]] > 1:
            told[run.run_id] = " · ".join(filter(None, (told[run.run_id], run.run_id)))
    return told


def setting_text(name: str, value: object) -> str:
    if name in ("model", "task"):
        return str(value).rstrip("/").rsplit("/", 1)[-1]
    return f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"


def progress_html(run: Run, beside: str = "") -> str:
    """``step 120 of 200, 0:05 left`` over a bar; a finished run tells its time instead. ``beside`` follows it."""
    share = min(1.0, run.step / run.spec.steps)
    if run.status.is_live():
        told = f"step {run.step:,} of {run.spec.steps:,}"
        if run.remaining_s is not None:
            told += f", {formatting.clock(run.remaining_s)} left"
    elif run.status == RunState.QUEUED:
        told = f"{run.spec.steps:,} steps to do"
    else:
        told = f"{run.step:,}/{run.spec.steps:,} steps in {formatting.duration(run.seconds)}"
    return (
        f'<span class="cdka-progress"><span class="bar" role="progressbar" aria-label="steps done" '
        f'aria-valuenow="{100 * share:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100"><b style="width:{100 * share:.1f}%"></b></span>'
        f"<span>{told}{beside}</span></span>"
    )


def score_html(run: Run, track: Track) -> str:
    """Validation accuracy first, its best beside it; test accuracy once the run is kept."""
    told = []
    if track.accuracies and track.accuracies[-1] is not None:
        told.append(f"<b>{track.accuracies[-1]:.3f}</b> validation")
        best = track.best
        if best and best[0] > track.accuracies[-1]:
            told.append(f"best {best[0]:.3f} at step {best[1]}")
    if (test := run.metrics.get(TEST_ACCURACY)) is not None:
        told.append(f"{test:.3f} test")
    return " · ".join(told) or '<span class="cdka-quiet">no evaluation yet</span>'


def effort_html(run: Run) -> str:
    """Parameters, speed and memory, as far as they are known."""
    told = []
    if run.num_params is not None:
        told.append(widgets.count_html(run.num_params, "parameters"))
    if run.status.is_live() and run.samples_per_s:
        told.append(f"{run.samples_per_s:,.0f} samples/s")
    if run.peak_bytes:
        told.append(f"{formatting.size(run.peak_bytes)} memory")
    return " · ".join(told)


def row_html(run: Run, track: Track, differs: str = "") -> str:
    """The whole row; ``differs`` is what tells it apart from the others shown."""
    hover = f"alpha {run.spec.alpha:g}, lr {run.spec.lr:g}, scaling {run.spec.scaling:.3g}" if run.spec.scaling else ""
    trouble, beside = "", f" · {html.escape(differs)}" if differs else ""
    if run.error and run.status in (RunState.FAILED, RunState.LOST):
        trouble = f'<div class="cdka-error">{html.escape(run.error)}</div>'
    return (
        f'<div class="cdka-run"><div>{widgets.method_chip_html(run.spec, hover)} <span class="cdka-quiet">'
        f"seed {run.spec.seed}</span> {status_html(run)}</div><div class='score'>{score_html(run, track)}"
        f"{sparkline(track.accuracies, track.eval_steps, run.spec.steps)}</div>"
        f'<div class="cdka-quiet">{progress_html(run, beside)}</div><div class="cdka-quiet right">'
        f"{effort_html(run)}</div>{trouble}</div>"
    )
