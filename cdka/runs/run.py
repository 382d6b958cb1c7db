"""One run, one sweep and one poll as the store hands them out, and their ids. Free of torch and of SQL."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.runs.metrics import with_old_names
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no look-alikes: people read these aloud and type them
_PATTERN = re.compile(r"[a-z]-[0-9a-z]{1,16}")


def new_id(letter: str) -> str:
    """A fresh random name such as ``r-4kq7mz2n`` (40 bits)."""
    return f"{letter}-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def check_id(name: str, what: str = "run") -> str:
    """``name`` itself if it has the form of an id, whole or a prefix; raises CdkaError otherwise."""
    if not isinstance(name, str) or not _PATTERN.fullmatch(name):
        example = {"run": "r-4kq7mz2n", "sweep": "s-4kq7mz2n"}[what]
        raise CdkaError(f"a {what} is named by its id: got {str(name)[:80]!r}. Example: {example}; see: cdka runs list")
    return name


def run_directory(home: Path, run_id: str) -> Path:
    """The folder of one run, always directly inside ``home/runs``."""
    return home / "runs" / check_id(run_id)


ANSWERS_FILE = "answers.jsonl"


@dataclass(frozen=True)
class Run:
    """One run as the store knows it. Times are Unix seconds, durations (``_s``) are seconds.

    ``metrics`` is empty until the run is kept. ``attempt`` counts executions, 0 while none was started.
    ``step``, ``samples`` and ``elapsed_s`` (training time of this attempt) are those of the last step recorded;
    ``first_step`` is where the attempt resumed (0: from the start); ``last_eval`` is the last evaluation event.
    ``stop_requested`` is "keep", "cancel" or None; ``heartbeat_at`` is the worker's last sign of life;
    ``worked_s`` its own measure of the attempt's time, which a change of the clock does not touch;
    ``peak_bytes`` its peak memory; ``progress`` the last ``cdka.runs.events.Progress`` of a run at work.
    """

    run_id: str
    sweep_id: str | None
    spec: RunSpec
    status: RunState
    phase: str | None
    attempt: int
    step: int
    num_params: int | None
    metrics: Mapping[str, Any]
    error: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    directory: Path
    pack_id: str | None = None
    stop_requested: str | None = None
    samples: int = 0
    elapsed_s: float | None = None
    last_eval: Mapping[str, Any] = field(default_factory=dict)
    peak_bytes: int | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    heartbeat_at: float | None = None
    worked_s: float | None = None
    first_step: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", RunState(self.status))

    @property
    def adapter_dir(self) -> Path:
        """The folder of the adapter (or the full model) once the run is kept."""
        return self.directory / "adapter"

    @property
    def best_adapter_dir(self) -> Path | None:
        """The folder of the adapter of the best look: its own, or the last one's where that was the best."""
        own = self.directory / "adapter-best"
        if own.is_dir():
            return own
        best = self.metrics.get("best_step")
        return self.adapter_dir if best and best == self.metrics.get("steps_done") else None

    @property
    def answers_path(self) -> Path:
        """The generated test answers, a JSON object a line: example, prompt, answer, predicted, label."""
        return self.directory / ANSWERS_FILE

    @property
    def log_path(self) -> Path:
        """The file that the last attempt printed to. It is absent until there was one."""
        return self.directory / f"attempt-{max(self.attempt, 1)}.log"

    @property
    def seconds(self) -> float | None:
        """Wall time of the last attempt, from its start to its end; None while it has not ended."""
        if self.worked_s is not None:
            return self.worked_s
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, self.finished_at - self.started_at)

    @property
    def remaining_s(self) -> float | None:
        """Time still to go, all phases together, at the speed so far; None before the first step and after the end."""
        done = self.step - self.first_step
        if not self.status.is_live() or done <= 0 or not self.elapsed_s:
            return None
        if self.progress.get("eta_s") is not None:
            return float(self.progress["eta_s"])
        return self.elapsed_s / done * max(0, self.spec.steps - self.step)

    @property
    def samples_per_s(self) -> float | None:
        """Training samples per second, judging left out where that is known; None before the first step."""
        done = self.step - self.first_step
        if self.progress.get("unit") == "steps" and self.progress.get("rate"):
            return float(self.progress["rate"]) * self.spec.batch_size
        return done * self.spec.batch_size / self.elapsed_s if done > 0 and self.elapsed_s else None

    def to_dict(self) -> dict[str, Any]:
        """The run as the JSON of ``cdka run --json``; its metrics stand there under the short names of 0.1.0 too."""
        kept = self.status.is_kept()
        return {
            "run_id": self.run_id,
            "status": self.status,
            "num_params": self.num_params,
            "metrics": with_old_names(self.metrics),
            "seconds": self.seconds,
            "adapter_dir": str(self.adapter_dir) if kept else None,
            "best_adapter_dir": str(self.best_adapter_dir) if kept and self.best_adapter_dir else None,
            "judged": judged(self.metrics) if kept else None,
            **({"retained": retained(self.metrics)} if kept and self.spec.retain else {}),
            "error": self.error,
        }


@dataclass(frozen=True)
class Sweep:
    """A planned set of runs. ``counts`` maps each status that occurs to how many of its runs have it."""

    sweep_id: str
    name: str
    plan: Mapping[str, Any]
    created_at: float
    counts: Mapping[RunState, int]

    @property
    def note(self) -> str:
        """A remark about it; empty where there is none."""
        return str(self.plan.get("note", ""))

    @property
    def tags(self) -> tuple[str, ...]:
        """The words it is filed under."""
        return tuple(self.plan.get("tags", ()))

    @property
    def tunes_lr(self) -> bool:
        """True where its plan tries several learning rates, of which each configuration is taken at its best."""
        return bool(self.plan.get("tune_lr"))

    @property
    def finished(self) -> bool:
        """True when nothing more will happen unless a run is retried: no halving has a decision to come either."""
        decided = self.plan.get("halving", {}).get("over", True)
        return decided and all(RunState(status).is_finished() for status in self.counts)


@dataclass(frozen=True)
class Poll:
    """The runs as they are now, their events since the cursors, and the next cursors.

    A cursor is (attempt, seq of the last event seen). Where its attempt differs from the one handed in, the run
    was started again and ``events`` begin at that attempt's first: drop what was drawn before.
    Runs that no longer exist are in none of the three.
    """

    runs: Mapping[str, Run]
    events: Mapping[str, list[dict[str, Any]]]
    cursors: Mapping[str, tuple[int, int]]


def judged(metrics: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """Counts of judged examples, ``[used, of]``, by split."""
    return {split: [metrics.get(f"{split}/examples"), metrics.get(f"{split}/of")] for split in ("eval", "test")}


def retained(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The retained task's metrics before and after the run."""
    return {
        when: {name: metrics.get(f"retained/{when}_{name}") for name in ("accuracy", "loss", "examples")}
        for when in ("before", "after")
    }
