"""The contract between the dispatcher and an engine: slots, submit, cancel, poll, forget.

An engine executes jobs and reports on them; it decides nothing and its memory is no record. The store is the only
truth: the dispatcher hands in the jobs as they stand there, and stores what an engine reports. The engine of this
machine is ``workers.LocalEngine``, whose workers record their own events; ``ray.RayEngine`` brings events home.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cdka.runs.events import Event
from cdka.runs.job_queue import Job, LiveJob
from cdka.runs.spec import LOCAL, RunSpec
from cdka.runs.states import RunState

NO_SLOT = "none"
"""The answer of ``slot_for`` for a run that no slot of the engine will ever suit."""
Outcome = tuple[RunState, str]
"""(``failed`` or ``lost``, cause) of runs whose execution ended without a report."""


@dataclass(frozen=True)
class Report:
    """News of an engine about one job since the last poll.

    ``place`` is where the job began to execute, (process id, node, slot in words), reported once. ``events`` are those
    of each run behind the store's last one, in order; ``finished`` names folders that have arrived for a run and are to
    be renamed into its own, by name (``adapter``), before its events are stored; those of ``after`` once they are.
    ``worked_s`` is the job's time at work so far. ``outcome`` ends the job: what becomes of its runs that have not
    ended (None: it goes on). With ``unclaimed``, runs that nobody took up go back into the queue; with ``again``, those
    that are lost do too, in a new attempt.
    """

    job_id: str
    place: tuple[int, str, str] | None = None
    events: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    finished: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    worked_s: float = 0.0
    outcome: Outcome | None = None
    unclaimed: bool = False
    again: bool = False


class Engine(Protocol):
    """Executes jobs. No call waits: what takes time goes on between two polls."""

    def ready(self) -> bool:
        """True when a job can be started now. Called every turn, so that it can prepare itself."""

    def has_room(self) -> bool:
        """True where a slot is free, as far as is known."""

    def slot_for(self, spec: RunSpec) -> str | None:
        """The name of a free slot for a run; None while there is none, ``NO_SLOT`` where there never will be."""

    def submit(self, job: Job, specs: Sequence[RunSpec], *, alone: bool) -> None:
        """Start a job in the slot that was reserved for it; ``alone`` where nothing else is at work or waiting.

        Raises CdkaError for a slot that does not exist here, and OSError where nothing could be started.
        """

    def attach(self, live: LiveJob) -> Report | None:
        """Take over a live job that this dispatcher has not started; a report where it is none."""

    def jobs(self) -> Sequence[Job]:
        """The jobs in its hands: submitted or attached, and not forgotten."""

    def cancel(self, job_id: str) -> None:
        """End a job without keeping anything; asked again every turn until it has ended."""

    def poll(self, live: Mapping[str, LiveJob]) -> Sequence[Report]:
        """The reports since the last poll; ``live`` are its jobs as they stand in the store."""

    def forget(self, job_id: str) -> None:
        """Let go of a job that has ended."""

    def close(self) -> None:
        """Let everything go; what is at work goes on."""


def engine_of(slot: str) -> str:
    """The engine that a slot belongs to: ``local``, or the address of a cluster, with which its slots' names begin."""
    return slot.split()[0] if slot.startswith("ray:") else LOCAL
