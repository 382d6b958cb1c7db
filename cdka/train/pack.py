"""A pack of runs while it trains: the model, the data, the members still at work, and the time spent on each phase."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from cdka.runs import events
from cdka.runs.events import Event
from cdka.runs.spec import RunSpec
from cdka.train import distributed
from cdka.train.data.splits import AnySplit, TaskData
from cdka.train.device import return_freed_memory
from cdka.train.evaluate import Progress
from cdka.train.forward import lengths_of, split_rows
from cdka.train.judging import Judging
from cdka.train.member import Member
from cdka.train.pack_schedule import PackSchedule
from cdka.train.retained import Retained

Control = Callable[[int], str | None]
Events = Generator[tuple[int, Event], None, None]
Result = TypeVar("Result")
SHOWN_EVERY_S = 0.5
PHASES = {
    "load": "loading",
    "prepare": "preparing data",
    "measure": "measuring speed",
    "train": "training",
    "evaluate": "evaluating",
    "generate": "generating answers",
    "test": "testing",
    "save": "saving",
}
"""The phases of a run, in this order, and the words for each. Measuring belongs to preparing in the seconds."""


class PhaseClock:
    """Adds up the seconds of each phase; one phase is on at any time."""

    def __init__(self) -> None:
        self.seconds = {phase: 0.0 for phase in PHASES if phase != "measure"}
        self._phase, self._since = "load", time.monotonic()

    def enter(self, phase: str) -> None:
        """The time from now on belongs to ``phase``."""
        now = time.monotonic()
        self.seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def refresh(self) -> None:
        """Count the seconds up to now."""
        self.enter(self._phase)

    @property
    def judging_s(self) -> float:
        """Seconds spent on losses and answers so far."""
        self.refresh()
        return self.seconds["evaluate"] + self.seconds["generate"]

    def metrics(self) -> dict[str, float]:
        """``{"load_s": ..., ...}`` up to now."""
        self.refresh()
        return {f"{phase}_s": round(seconds, 4) for phase, seconds in self.seconds.items()}


@dataclass
class Pack:
    """``answer_rows`` are the places in the validation split whose answers are generated.

    ``look_s`` is how long the last look at the validation split took, all members together. ``judged_losses`` and
    ``judged_answers`` count what the clock's seconds of ``evaluate`` and ``generate`` paid for. ``pass_tokens`` go
    through the model at a time at most, all members together (None: no limit); with ``returns_memory`` what training
    has freed goes back to the system before anything is judged. ``answers_left_s`` is how long the answers that are
    being generated will still take.
    """

    model: torch.nn.Module
    data: TaskData
    device: torch.device
    members: list[Member]
    control: Control
    schedule: PackSchedule
    clock: PhaseClock
    judging: Judging
    answer_rows: torch.Tensor
    retained: Retained | None = None
    started: float = field(default_factory=time.monotonic)
    first_step: int = 0
    pending: list[tuple[Member, events.Step, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    shown_at: float = 0.0
    look_s: float = 0.0
    judged_losses: int = 0
    judged_answers: int = 0
    judging_since: float | None = None
    answers_left_s: float | None = None
    pass_tokens: int | None = None
    returns_memory: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since training began, judging included."""
        return round(time.monotonic() - self.started, 4)

    @property
    def at_work(self) -> list[Member]:
        """The members that train on."""
        return [member for member in self.members if not member.stopped]

    def parts(self, batches: Sequence[AnySplit], spec: RunSpec) -> tuple[torch.Tensor, ...]:
        """Row numbers of ``batches``, which are of one size, in the parts that go through the model one at a time.

        There are ``gradient_accumulation`` of them, and more where the memory of a pass takes fewer tokens.
        """
        return split_rows([lengths_of(batch) for batch in batches], spec.gradient_accumulation, self.pass_tokens)

    def for_all(self, event: Event) -> Iterator[tuple[int, Event]]:
        """The event for every member."""
        for member in self.members:
            yield member.index, event

    def hear_requests(self) -> Iterator[tuple[int, Event]]:
        """Ask the control about each member: a cancelled one leaves now, one to be kept is marked."""
        for member in list(self.members):
            request = distributed.broadcast(self.control(member.index))
            if request == "cancel":
                self.members.remove(member)
                yield member.index, events.Cancelled()
            elif request == "keep":
                member.keep_requested = True

    def show(self, progress: Progress) -> Iterator[tuple[int, Event]]:
        """The progress of all members as events, at most one every ``SHOWN_EVERY_S``."""
        now = time.monotonic()
        if now - self.shown_at < SHOWN_EVERY_S or not self.members:
            return
        self.shown_at = now
        self.clock.refresh()
        yield from self.for_all(
            events.Progress(
                phase=PHASES[progress.phase],
                done=round(progress.done, 2),
                of=progress.of,
                unit=progress.unit,
                rate=progress.rate,
                tokens_per_s=self.tokens_per_s,
                eta_s=self.eta_s(),
            )
        )

    @property
    def steps_per_s(self) -> float | None:
        """Updates per second of training, judging left out."""
        done = self.members[0].step - self.first_step if self.members else 0
        self.clock.refresh()
        seconds = self.clock.seconds["train"]
        return round(done / seconds, 4) if done and seconds else None

    @property
    def tokens_per_s(self) -> float | None:
        """Training tokens per second of all members together, None where there are none to count."""
        read = [member.tokens - member.first_tokens for member in self.members if member.tokens is not None]
        seconds = self.clock.seconds["train"]
        return round(sum(read) / seconds, 1) if read and seconds else None

    def eta_s(self) -> float | None:
        """Seconds until all members have ended: steps, looks and the test to come, at the speed so far.

        None before the first step.
        """
        spec, step, seconds = self.members[0].spec, self.members[0].step, self.clock.seconds
        done = step - self.first_step
        if not done or not seconds["train"]:
            return None
        looked = step == spec.steps and self.members[0].last_good_step == step
        looks = 0 if looked else math.ceil(spec.steps / spec.eval_every) - step // spec.eval_every
        if looked and self.answers_left_s is not None:
            return round(self.answers_left_s, 1)
        test_s = len(self.members) * self._test_s()
        left = seconds["train"] / done * (spec.steps - step) + looks * self.look_s + test_s
        spent = time.monotonic() - self.judging_since if self.judging_since else 0.0
        return round(max(0.0, left - min(spent, self.look_s if looks else test_s)), 1)

    def _test_s(self) -> float:
        """The seconds that the test takes a member: as its judging went so far, else as was measured before."""
        seconds, number, costs = self.clock.seconds, self.judging.test, self.judging.costs
        losses_s = number * seconds["evaluate"] / max(1, self.judged_losses)
        if self.data.objective.generation is None:
            return losses_s
        if self.judged_answers:
            return losses_s + number * seconds["generate"] / self.judged_answers
        return losses_s + (costs.answers_s(number) if costs is not None else 0.0)


def watched(
    pack: Pack,
    members: Sequence[Member],
    work: Generator[Progress, None, Result],
    *,
    phase: str | None = None,
    keep_ends: bool = False,
) -> Generator[tuple[int, Event], None, Result | None]:
    """The result of ``work``, a generator of progress; its progress becomes events, and requests are heard meanwhile.

    None once every one of ``members`` was cancelled (or, with ``keep_ends``, asked to stop and keep): the work is
    then left. ``phase`` names the progress instead of the work's own. Several processes hear no requests in here: they
    would have to agree at every turn.
    """
    started, first = time.monotonic(), None
    pack.judging_since = started
    if pack.returns_memory:
        return_freed_memory()
    try:
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                return end.value
            name = phase or progress.phase
            pack.clock.enter(name)
            if first is None or first[0] != progress.phase:
                first, started = (progress.phase, progress.done), time.monotonic()
            rate = (progress.done - first[1]) / max(1e-9, time.monotonic() - started)
            if progress.phase == "generate" and rate:
                pack.answers_left_s = (progress.of - progress.done) / rate
            yield from pack.show(Progress(name, progress.done, progress.of, progress.unit, round(rate, 3) or None))
            if distributed.size() > 1:
                continue
            yield from pack.hear_requests()
            if all(one not in pack.members or (keep_ends and one.keep_requested) for one in members):
                return None
    finally:
        pack.judging_since = pack.answers_left_s = None
        work.close()
