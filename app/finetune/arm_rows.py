"""One configuration as one row: its colour, chip, seeds, mean so far, progress. HTML strings from the store's runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app import widgets
from app.finetune.feed import Track
from app.finetune.race_curves import colour_of
from app.finetune.run_rows import APART, WORDS, setting_text, sparkline
from cdka import formatting
from cdka.runs.metrics import TEST_ACCURACY
from cdka.runs.run import Run
from cdka.runs.states import RunState
from cdka.stats.intervals import interval


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


def arm_html(arm: ArmRuns, tracks: Mapping[str, Track]) -> str:
    """The whole row. ``data-arm`` ties it to its lines in the charts."""
    first = arm.runs[0]
    variant = arm.label.partition(" · ")[2]
    beside = f' <span class="cdka-quiet">{html.escape(variant)}</span>' if variant else ""
    steps = sum(min(run.step, run.spec.steps) for run in arm.runs)
    total = sum(run.spec.steps for run in arm.runs)
    errors = "".join(
        f'<div class="cdka-error">{html.escape(text)}</div>'
        for text in dict.fromkeys(
            run.error for run in arm.runs if run.error and run.status in (RunState.FAILED, RunState.LOST)
        )
    )
    params = next((run.num_params for run in arm.runs if run.num_params is not None), None)
    cost = widgets.count_html(params, "parameters") if params else ""
    longest = max(arm.runs, key=lambda run: len(tracks[run.run_id].accuracies))
    track = tracks[longest.run_id]
    return (
        f'<div class="cdka-run" data-arm="{html.escape(arm.label, quote=True)}"><div>'
        f'<span class="cdka-swatch" style="background:{colour_of(arm.label)}"></span>'
        f"{widgets.method_chip_html(first.spec)}{beside} {_states(arm.runs)}</div>"
        f'<div class="score">{_score(arm.runs, tracks)}'
        f"{sparkline(track.accuracies, track.eval_steps, first.spec.steps)}</div>"
        f'<div class="cdka-quiet">{_bar(steps / total if total else 0.0)} {_pace(arm.runs)}</div>'
        f'<div class="cdka-quiet right">{cost}</div>{errors}</div>'
    )


def _states(runs: Sequence[Run]) -> str:
    """``3 seeds`` and how they stand."""
    counts: dict[RunState, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    seeds = formatting.plural(len({run.spec.seed for run in runs}), "seed")
    told = "".join(
        f'<span class="cdka-state {WORDS[status][1]}">{"" if len(runs) == number else f"{number} "}'
        f"{WORDS[status][0]}</span>"
        for status, number in counts.items()
    )
    return f'<span class="cdka-quiet">{seeds}</span> {told}'


def _score(runs: Sequence[Run], tracks: Mapping[str, Track]) -> str:
    """The mean of the test accuracy once runs are kept, else of the last validation accuracies."""
    tests = [run.metrics[TEST_ACCURACY] for run in runs if TEST_ACCURACY in run.metrics]
    lasts = [tracks[run.run_id].accuracies[-1] for run in runs if tracks[run.run_id].accuracies]
    values, kind = (tests, "test") if tests else ([value for value in lasts if value is not None], "validation")
    if not values:
        return '<span class="cdka-quiet">no evaluation yet</span>'
    found = interval(values, bounds=(0, 1))
    return f"<b>{formatting.estimate(found.mean, found.low, found.high, found.n)}</b> {kind} accuracy"


def _pace(runs: Sequence[Run]) -> str:
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
        name = label.replace("\\", "").replace('"', "")
        rules.append(
            f'.stApp:has([data-arm="{name}"]:hover) [data-testid="stVegaLiteChart"] '
            f'path[aria-label]:not([aria-label="{name}"]) {{ opacity: .12 !important; }}'
        )
    return f"<style>{' '.join(rules)}</style>"
