"""Data of the runs on screen: read once in full, then only the new events."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pandas as pd

from cdka.compare.figures.style import thin
from cdka.runs.events import Evaluated, Resumed, Step
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, TRAIN_LOSS
from cdka.runs.run import Run
from cdka.runs.store import Store

MAX_POINTS = 300
"""Points drawn of one curve; fewer where many runs are drawn, so that a second's redraw stays cheap."""
MAX_ALTOGETHER = 3600


@dataclass
class Track:
    """The full history of one attempt: training losses, validation accuracies and losses, by step."""

    steps: list[int] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    eval_steps: list[int] = field(default_factory=list)
    accuracies: list[float | None] = field(default_factory=list)
    eval_losses: list[float | None] = field(default_factory=list)

    def add(self, event: dict) -> None:
        """Take in one event; kinds that are no points of a curve are left out."""
        if event["kind"] == Step.kind:
            self.steps.append(event["step"])
            self.losses.append(event[TRAIN_LOSS])
        elif event["kind"] == Evaluated.kind:
            self.eval_steps.append(event["step"])
            self.accuracies.append(event.get(EVAL_ACCURACY))
            self.eval_losses.append(event.get(EVAL_LOSS))

    @property
    def best(self) -> tuple[float, int] | None:
        """The best validation accuracy so far and its step; the first of equals; None before the first evaluation."""
        scored = [(a, -s) for a, s in zip(self.accuracies, self.eval_steps, strict=True) if a is not None]
        if not scored:
            return None
        accuracy, minus_step = max(scored)
        return accuracy, -minus_step

    def smoothed(self) -> list[float]:
        """Exponential moving average of the training loss, its span a twentieth of the curve (at least 5 steps)."""
        span = max(5, len(self.losses) // 20)
        return pd.Series(self.losses, dtype="float64").ewm(span=span, adjust=True).mean().tolist()


class Feed:
    """The runs that one page follows. ``refresh`` asks the store only for what is new."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.tracks: dict[str, Track] = {}
        self._cursors: dict[str, tuple[int, int]] = {}
        self.labels: dict[str, str] = {}
        """The configuration's label of each run, where it is more than the run's own."""

    def refresh(self, store: Store, run_ids: Iterable[str]) -> None:
        """Bring the runs named here up to date and forget all others."""
        wanted = list(dict.fromkeys(run_ids))
        for known in [run_id for run_id in self.runs if run_id not in wanted]:
            for book in (self.runs, self.tracks, self._cursors):
                book.pop(known, None)
        poll = store.poll({run_id: self._cursors.get(run_id, (0, -1)) for run_id in wanted})
        for run_id, run in poll.runs.items():
            before, now = self._cursors.get(run_id), poll.cursors[run_id]
            if before is None or before[0] != now[0]:
                self.tracks[run_id] = Track()
            events = poll.events[run_id]
            if any(event["kind"] == Resumed.kind for event in events):
                self.tracks[run_id] = _before(store, run_id, events)
            for event in events:
                self.tracks[run_id].add(event)
            self.runs[run_id], self._cursors[run_id] = run, now
        for gone in [run_id for run_id in self.runs if run_id not in poll.runs]:
            self.runs.pop(gone), self.tracks.pop(gone), self._cursors.pop(gone)

    def _who(self, run: Run) -> tuple[str, str, int]:
        return self.labels.get(run.run_id) or run.spec.label.removeprefix("cdka "), run.run_id, run.spec.seed

    @staticmethod
    def _most(drawn: Collection[str]) -> int:
        return min(MAX_POINTS, max(12, MAX_ALTOGETHER // max(1, len(drawn))))

    def _drawn(self, wanted: Collection[str]) -> list[tuple[str, Run]]:
        return [(run_id, run) for run_id, run in self.runs.items() if run_id in wanted]

    def validation(self, drawn: Collection[str]) -> pd.DataFrame:
        """Validation points of the runs ``drawn``: label, run, seed, step, accuracy, loss; at most 300 per run."""
        rows = []
        for run_id, run in self._drawn(drawn):
            track = self.tracks[run_id]
            rows += [
                (*self._who(run), track.eval_steps[i], track.accuracies[i], track.eval_losses[i])
                for i in thin(len(track.eval_steps), self._most(drawn))
            ]
        return pd.DataFrame(rows, columns=["label", "run", "seed", "step", "accuracy", "loss"])

    def training(self, drawn: Collection[str]) -> pd.DataFrame:
        """Training points of the runs ``drawn``: label, run, seed, step, loss, smoothed; at most 300 per run."""
        rows = []
        for run_id, run in self._drawn(drawn):
            track = self.tracks[run_id]
            smooth = track.smoothed()
            rows += [
                (*self._who(run), track.steps[i], track.losses[i], smooth[i])
                for i in thin(len(track.steps), self._most(drawn))
            ]
        return pd.DataFrame(rows, columns=["label", "run", "seed", "step", "loss", "smoothed"])


def _before(store: Store, run_id: str, events: list[dict]) -> Track:
    """Events of earlier attempts up to the step from which this one, with these ``events``, goes on."""
    track = Track()
    resumed = next(event["step"] for event in events if event["kind"] == Resumed.kind)
    points = store.curves([run_id])
    for point in points[points["step"] <= resumed].to_dict("records"):
        track.add({key: None if value != value else value for key, value in point.items()})
    return track
