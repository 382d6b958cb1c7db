"""Every event of a run while it trains: one class for each kind, and its form in JSON.

The training loop yields events, the recorder stores them, ``Store.events`` and ``Store.poll`` return them as JSON
objects with a ``kind``. Metrics stand in them under the names of ``cdka.runs.metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from cdka.runs.metrics import TRAIN_LOSS


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all kinds. ``kind`` names the class in JSON."""

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` is its inverse. What is None is left out."""
        own = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return {"kind": self.kind, **own}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Event:
        """The event with the entries of ``body``, which is JSON without its kind."""
        return cls(**body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Event):
    """The run enters a phase (``cdka.runs.states.PHASES``), or has come so far in it, as a download does."""

    kind: ClassVar[str] = "phase"
    phase: str
    done_bytes: int | None = None
    total_bytes: int | None = None
    done: int | None = None
    of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """Progress of the run in a phase: ``done`` of ``of`` units, ``rate`` units a second.

    ``eta_s`` is the time until the run has ended, all phases together; None while that cannot be said. The store keeps
    the last one alone.
    """

    kind: ClassVar[str] = "progress"
    phase: str
    done: float
    of: int | None
    unit: str = "examples"
    rate: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Event):
    """Numbers of examples that the run is judged on, decided before the first evaluation, each of how many.

    ``generate`` counts the validation examples that get a generated answer at each look. ``costs`` are the seconds
    that decided it, where they had to be measured: of one update, one example's loss, one generated answer.
    """

    kind: ClassVar[str] = "judging"
    eval: int
    eval_of: int
    generate: int
    test: int
    test_of: int
    costs: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """A line that the user should read: dropped rows, a fallback."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Event):
    """Model and data are loaded; training is about to begin. ``overlong`` training examples were cut or left out."""

    kind: ClassVar[str] = "start"
    num_params: int | None = None
    total_steps: int | None = None
    base_params: int | None = None
    device: str | None = None
    dtype: str | None = None
    pack_size: int | None = None
    max_length: int | None = None
    label_names: Sequence[str] = ()
    train_examples: int | None = None
    overlong: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """Training continues from a checkpoint after ``step`` steps."""

    kind: ClassVar[str] = "resumed"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    """One update. ``loss`` and ``grad_norm`` are those of the batch, the norm before clipping.

    ``samples`` and ``tokens`` count what the run has read so far, ``elapsed_s`` the training time of this attempt.
    """

    kind: ClassVar[str] = "step"
    step: int
    loss: float | None
    lr: float | None = None
    grad_norm: float | None = None
    samples: int | None = None
    tokens: int | None = None
    elapsed_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        body = super(Step, self).to_dict()
        body.pop("loss", None)
        return {**body, TRAIN_LOSS: self.loss}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Step:
        return cls(**{"loss" if key == TRAIN_LOSS else key: value for key, value in body.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Event):
    """The validation split was judged after ``step`` steps: ``metrics`` by name (``eval/accuracy``, ``eval/loss``)."""

    kind: ClassVar[str] = "eval"
    step: int
    metrics: Mapping[str, float | None]
    examples: int | None = None
    samples: int | None = None
    tokens: int | None = None
    elapsed_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        body = super(Evaluated, self).to_dict()
        del body["metrics"]
        return {**body, **self.metrics}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Evaluated:
        metrics = {key: value for key, value in body.items() if "/" in key}
        return cls(metrics=metrics, **{key: value for key, value in body.items() if "/" not in key})


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing(Event):
    """The trial of the first steps decided how many runs of a pack share a pass; seconds per update of all of them."""

    kind: ClassVar[str] = "packing"
    size: int
    share: int
    together: bool
    packed_s: float
    separate_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Event):
    """The peak memory of the process so far."""

    kind: ClassVar[str] = "memory"
    peak_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Event):
    """The adapter, or the full model, was written; ``best``: that of the best look, beside the last one."""

    kind: ClassVar[str] = "saved"
    directory: str
    best: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Final(Event):
    """The last event of a run that is kept. ``stopped``: it was stopped early.

    ``predictions`` holds every answer on the test split; the store keeps it apart from the event.
    """

    kind: ClassVar[str] = "final"
    metrics: Mapping[str, Any]
    stopped: bool = False
    predictions: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """The last event of a run that failed: the cause in one line, with the next step, and the step where known."""

    kind: ClassVar[str] = "failed"
    cause: str
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Event):
    """The last event of a run that was cancelled while it trained."""

    kind: ClassVar[str] = "cancelled"


KINDS: Mapping[str, type[Event]] = {
    event.kind: event
    for event in (
        Phase,
        Progress,
        Note,
        Start,
        Judged,
        Resumed,
        Step,
        Evaluated,
        Packing,
        Memory,
        Saved,
        Final,
        Failed,
        Cancelled,
    )
}
"""Every kind of event by its name in JSON."""
LAST = (Final, Failed, Cancelled)
"""The events that end a run."""


def from_dict(data: Mapping[str, Any]) -> Event:
    """The event that ``to_dict`` wrote, also with the ``seq`` and ``at`` that the store adds.

    Raises KeyError for an unknown kind and TypeError for unknown or missing entries.
    """
    body = {key: value for key, value in data.items() if key not in ("kind", "seq", "at")}
    return KINDS[data["kind"]].from_body(body)
