"""One run, or all runs of one configuration, as one row: chip, state, progress, accuracy, sparkline. HTML strings."""

from __future__ import annotations

import html
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app import widgets
from app.finetune.feed import Track
from app.finetune.race_curves import colour_of
from cdka import formatting
from cdka.cost.adapter import count_params
from cdka.errors import CdkaError
from cdka.runs.metrics import TEST_ACCURACY, words_of
from cdka.runs.resolve import resolve_run
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.stats.intervals import interval

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
APART = (
    "model",
    "task",
    "target_modules",
    "indivisible",
    "lr",
    "alpha",
    "batch_size",
    "schedule",
    "scaling_rule",
    "dtype",
)
"""The settings that tell runs of one method and seed apart, in the order of their interest."""


def sparkline(track: Track, total_steps: int) -> str:
    """A line of 100 by 22 pixels over the whole run; empty before the second point.

    The validation accuracy from 0 to 1, or the loss from 0 to its highest where no answer was judged.
    """
    measure, values, steps = "accuracy", track.accuracies, track.eval_steps
    if all(value is None for value in values):
        measure, highest = "loss", max((loss for loss in track.eval_losses if loss is not None), default=0.0) or 1.0
        values = [None if loss is None else loss / highest for loss in track.eval_losses]
    points = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if len(points) < 2:
        return '<svg class="cdka-spark" viewBox="0 0 100 22" aria-hidden="true"></svg>'
    places = [(f"{2 + 95 * s / total_steps:.1f}", f"{19.5 - 17 * v:.1f}") for s, v in points]
    line, (x, y) = " ".join(f"{x},{y}" for x, y in places), places[-1]
    return (
        f'<svg class="cdka-spark" viewBox="0 0 100 22" role="img" aria-label="validation {measure} so far">'
        f'<polyline points="{line}"/><circle cx="{x}" cy="{y}" r="2.2"/></svg>'
    )


def status_html(run: Run) -> str:
    """The state as a word with its tone; the phase while a process is at work, and how long it has been silent."""
    word, tone = WORDS[run.status]
    word = run.phase if run.status == RunState.RUNNING and run.phase else word
    silent = time.time() - run.heartbeat_at if run.status.is_live() and run.heartbeat_at else 0.0
    quiet = f' <span class="cdka-quiet">silent for {formatting.duration(silent)}</span>' if silent > SILENT_S else ""
    return f'<span class="cdka-state {tone}">{html.escape(word)}</span>{quiet}'


def apart(runs: Sequence[Run]) -> dict[str, str]:
    """For each run, in what it differs from the others beside method and seed: ``lr 0.01 · 200 steps``; else empty.

    Runs that were asked for twice differ in their name only.
    """
    settings = {run.run_id: run.spec.to_dict() for run in runs}
    varying = [name for name in APART if len({repr(one[name]) for one in settings.values()}) > 1]
    differences = {
        run_id: " · ".join(setting_text(name, one[name]) for name in varying) for run_id, one in settings.items()
    }
    twins = Counter((run.spec.label, run.spec.seed, differences[run.run_id]) for run in runs)
    for run in runs:
        if twins[run.spec.label, run.spec.seed, differences[run.run_id]] > 1:
            differences[run.run_id] = " · ".join(filter(None, (differences[run.run_id], run.run_id)))
    return differences


def setting_text(name: str, value: object) -> str:
    if name in ("model", "task"):
        return str(value).rstrip("/").rsplit("/", 1)[-1]
    return f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"


def progress_html(run: Run, beside: str = "") -> str:
    """``step 120 of 200, 0:05 left`` over a bar; a finished run tells its time instead. ``beside`` follows it."""
    share = min(1.0, run.step / run.spec.steps)
    if run.status.is_live():
        text = f"step {run.step:,} of {run.spec.steps:,}"
        if run.remaining_s is not None:
            text += f", {formatting.clock(run.remaining_s)} left"
    elif run.status == RunState.QUEUED:
        text = f"{run.spec.steps:,} steps to do"
    else:
        text = f"{run.step:,} of {run.spec.steps:,} steps in {formatting.duration(run.seconds)}"
    return (
        f'<span class="cdka-progress"><span class="bar" role="progressbar" aria-label="steps done" '
        f'aria-valuenow="{100 * share:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100"><b style="width:{100 * share:.1f}%"></b></span>'
        f"<span>{text}{beside}</span></span>"
    )


def score_html(run: Run, track: Track) -> str:
    """Validation accuracy first, its best beside it; test accuracy once the run is kept."""
    facts = []
    if track.accuracies and track.accuracies[-1] is not None:
        facts.append(f"<b>{track.accuracies[-1]:.3f}</b> validation accuracy")
        best = track.best
        if best and best[0] > track.accuracies[-1]:
            facts.append(f"best {best[0]:.3f} at step {best[1]}")
    if (test := run.metrics.get(TEST_ACCURACY)) is not None:
        facts.append(f"{test:.3f} test accuracy")
    return " · ".join(facts) or '<span class="cdka-quiet">no evaluation yet</span>'


def effort_html(run: Run) -> str:
    """Parameters, speed and memory, as far as they are known."""
    facts = []
    if run.num_params is not None:
        facts.append(params_html(run))
    if run.status.is_live() and run.samples_per_s:
        facts.append(f"{run.samples_per_s:,.0f} samples/s")
    if run.peak_bytes:
        facts.append(f"{formatting.size(run.peak_bytes)} memory")
    return " · ".join(facts)


def row_html(run: Run, track: Track, differs: str = "") -> str:
    """The whole row; ``differs`` is what tells it apart from the others shown."""
    hover = f"alpha {run.spec.alpha:g}, lr {run.spec.lr:g}, scaling {run.spec.scaling:.3g}" if run.spec.scaling else ""
    trouble, beside = "", f" · {html.escape(differs)}" if differs else ""
    if run.error and run.status in (RunState.FAILED, RunState.LOST):
        trouble = f'<div class="cdka-error">{html.escape(run.error)}</div>'
    return (
        f'<div class="cdka-run"><div>{widgets.method_chip_html(run.spec, hover)} <span class="cdka-quiet">'
        f"seed {run.spec.seed}</span> {status_html(run)}</div><div class='score'>{score_html(run, track)}"
        f"{sparkline(track, run.spec.steps)}</div>"
        f'<div class="cdka-quiet">{progress_html(run, beside)}</div><div class="cdka-quiet right">'
        f"{effort_html(run)}</div>{trouble}</div>"
    )


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one configuration that are on screen; ``label`` names it in the charts too."""

    label: str
    runs: tuple[Run, ...]


def arms_of(runs: Sequence[Run]) -> list[ArmRuns]:
    """The runs by configuration, in the order of their submission; namesakes are told apart by what differs."""
    by_label: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.created_at):
        by_label.setdefault(run.spec.label.removeprefix("cdka "), []).append(run)
    found = []
    for label, own in by_label.items():
        settings = {run.run_id: run.spec.to_dict() for run in own}
        varying = [name for name in APART if len({repr(one[name]) for one in settings.values()}) > 1]
        groups: dict[str, list[Run]] = {}
        for run in own:
            beside = [setting_text(name, settings[run.run_id][name]) for name in varying]
            groups.setdefault(" · ".join([label, *beside]), []).append(run)
        found += [ArmRuns(name, tuple(group)) for name, group in groups.items()]
    return found


def params_html(run: Run) -> str:
    """The parameters of the adapter, as the form announces them; those of a new head, trained with it, beside them."""
    adapter = _adapter_params(json.dumps(run.spec.to_dict(), sort_keys=True))
    total = run.num_params or 0
    if adapter is None or run.spec.method == "full" or total <= adapter:
        return widgets.count_html(total, "parameters")
    return f"{widgets.count_html(adapter, 'parameters')} + {widgets.count_html(total - adapter, 'of a new head')}"


@lru_cache(maxsize=1024)
def _adapter_params(settings: str) -> int | None:
    """The count of a run's settings alone; None where its model is no longer known here."""
    try:
        return count_params(resolve_run(RunSpec.from_dict(json.loads(settings))))
    except CdkaError:
        return None


def arm_html(arm: ArmRuns, tracks: Mapping[str, Track]) -> str:
    """The whole row. ``data-arm`` ties it to its lines in the charts."""
    first = arm.runs[0]
    variant = arm.label.partition(" · ")[2]
    beside = f' <span class="cdka-quiet">{html.escape(variant)}</span>' if variant else ""
    steps = sum(min(run.step, run.spec.steps) for run in arm.runs)
    total = sum(run.spec.steps for run in arm.runs)
    errors = "".join(
        f'<div class="cdka-error">{html.escape(widgets.sentence_case(text))}</div>'
        for text in dict.fromkeys(
            run.error for run in arm.runs if run.error and run.status in (RunState.FAILED, RunState.LOST)
        )
    )
    counted = next((run for run in arm.runs if run.num_params is not None), None)
    cost = "" if counted is None else params_html(counted)
    longest = max(arm.runs, key=lambda run: len(tracks[run.run_id].accuracies))
    track = tracks[longest.run_id]
    return (
        f'<div class="cdka-run" data-arm="{html.escape(arm.label, quote=True)}"><div>'
        f'<span class="cdka-swatch" style="background:{colour_of(arm.label)}"></span>'
        f"{widgets.method_chip_html(first.spec)}{beside} {_states(arm.runs)}</div>"
        f'<div class="score">{_score(arm.runs, tracks)}'
        f"{sparkline(track, first.spec.steps)}</div>"
        f'<div class="cdka-quiet">{_bar(steps / total if total else 0.0)} {_steps_text(arm.runs)}</div>'
        f'<div class="cdka-quiet right">{cost}</div>{errors}</div>'
    )


def _states(runs: Sequence[Run]) -> str:
    """``3 seeds`` and how they stand."""
    counts: dict[RunState, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    seeds = formatting.plural(len({run.spec.seed for run in runs}), "seed")
    states = "".join(
        f'<span class="cdka-state {WORDS[status][1]}">{"" if len(runs) == number else f"{number} "}'
        f"{WORDS[status][0]}</span>"
        for status, number in counts.items()
    )
    return f'<span class="cdka-quiet">{seeds}</span> {states}'


_FURTHER = ("test/balanced_accuracy", "test/macro_f1", "test/majority_accuracy", "test/mse", "test/mean_mse")
"""Metrics shown beside a classification's accuracy or a regression's correlation: an overlooked label shows in them."""


def _score(runs: Sequence[Run], tracks: Mapping[str, Track]) -> str:
    """The mean of the test accuracy once runs are kept, else of the last validation accuracies, else of the losses.

    A test on few of the answers says on how many, and has the loss beside it.
    """
    tests = [run.metrics[TEST_ACCURACY] for run in runs if TEST_ACCURACY in run.metrics]
    losses = [tracks[run.run_id].eval_losses[-1] for run in runs if tracks[run.run_id].eval_losses]
    lasts = [tracks[run.run_id].accuracies[-1] for run in runs if tracks[run.run_id].accuracies]
    accuracies = [value for value in lasts if value is not None]
    facts = []
    if ranks := _values(runs, "test/spearman"):
        facts.append(f"{_estimate(ranks, 1.0, least=-1.0)} test Spearman")
    if not accuracies and (known := [loss for loss in losses if loss is not None]):
        facts.append(f"{_estimate(known, math.inf)} validation loss")
    if tests:
        facts.append(f"{_estimate(tests, 1.0)} test accuracy{_on_some(runs)}")
    elif accuracies:
        facts.append(f"{_estimate(accuracies, 1.0)} validation accuracy")
    if facts and (further := _further(runs)):
        facts.append(f'<span class="cdka-quiet">{further}</span>')
    return " · ".join(facts) or '<span class="cdka-quiet">no evaluation yet</span>'


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    return [run.metrics[metric] for run in runs if run.metrics.get(metric) is not None]


def _further(runs: Sequence[Run]) -> str:
    """The means of the further metrics that all runs have."""
    found = {words_of(name).removeprefix("test "): _values(runs, name) for name in _FURTHER}
    return ", ".join(f"{name} {sum(v) / len(v):.3g}" for name, v in found.items() if len(v) == len(runs))


def _estimate(values: Sequence[float], most: float, *, least: float = 0.0) -> str:
    found = interval(values, bounds=(least, most))
    return f"<b>{formatting.estimate(found.mean, found.low, found.high, found.n)}</b>"


def _on_some(runs: Sequence[Run]) -> str:
    """`` on 8 of 1,319`` where the test judged the answers of a part of its split."""
    metrics = runs[0].metrics
    answered, of = metrics.get("test/answered"), metrics.get("test/of")
    return f" on {answered:,.0f} of {of:,.0f}" if answered and of and answered < of else ""


def _steps_text(runs: Sequence[Run]) -> str:
    live = [run for run in runs if run.status.is_live()]
    if live:
        left = [run.remaining_s for run in live if run.remaining_s is not None]
        time = f", {formatting.clock(max(left))} left" if left else ""
        return f"step {max(run.step for run in live):,} of {live[0].spec.steps:,}{time}"
    if all(run.status == RunState.QUEUED for run in runs):
        return f"{runs[0].spec.steps:,} steps each to do"
    times = [run.seconds for run in runs if run.seconds]
    return f"{runs[0].spec.steps:,} steps in {formatting.duration(sum(times) / len(times))}" if times else ""


def _bar(share: float) -> str:
    return (
        f'<span class="cdka-progress"><span class="bar" role="progressbar" aria-label="steps done" '
        f'aria-valuenow="{100 * share:.0f}" aria-valuemin="0" aria-valuemax="100">'
        f'<b style="width:{100 * min(1.0, share):.1f}%"></b></span></span>'
    )


def link_css(labels: Sequence[str]) -> str:
    """A style sheet under which pointing at a row dims the lines of all other configurations."""
    rules = []
    for label in labels:
        name = widgets.css_string(label)
        rules.append(
            f'.stApp:has([data-arm={name}]:hover) [data-testid="stVegaLiteChart"] '
            f"path[aria-label]:not([aria-label={name}]) {{ opacity: .12 !important; }}"
        )
    return f"<style>{' '.join(rules)}</style>"
