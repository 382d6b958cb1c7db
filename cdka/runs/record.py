"""The words of the run store: states, phases and the record of one run. Free of torch and of SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdka.finetune.spec import RunSpec

QUEUED, STARTING, RUNNING, STOPPING = "queued", "starting", "running", "stopping"
DONE, STOPPED, CANCELLED, FAILED, LOST = "done", "stopped", "cancelled", "failed", "lost"

LIVE = (STARTING, RUNNING, STOPPING)
"""A process is, or should be, at work."""
FINISHED = (DONE, STOPPED, CANCELLED, FAILED, LOST)
"""Nothing more will happen unless the run is retried."""
KEPT = (DONE, STOPPED)
"""There is a whole adapter and a final metric. ``stopped`` means stopped early and kept."""
STATUSES = (QUEUED, *LIVE, *FINISHED)

PHASES = ("loading", "preparing data", "training", "evaluating", "saving")


@dataclass(frozen=True)
class Run:
    """One run as the store knows it. Times are Unix seconds; ``seconds`` is the wall time of the last attempt.

    ``metrics`` is empty until the run is kept. ``attempt`` counts executions, 0 while none was started.
    """

    run_id: str
    sweep_id: str | None
    spec: RunSpec
    status: str
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

    @property
    def adapter_dir(self) -> Path:
        """Where the adapter (or the full model) lies once the run is kept."""
        return self.directory / "adapter"

    @property
    def seconds(self) -> float | None:
        """Wall time of the last attempt, from its start to its end; None while it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at
