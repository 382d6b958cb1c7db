"""The speed of a run on this machine, measured once in a child process and kept in the home. (ours)

A measurement loads the model and the data, and times one update, the loss of a few examples and a few tokens of an
answer. It holds for all runs with the same model, data, batch and precision, whatever their adapter: the frozen base
takes most of the time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cdka import childproc
from cdka.cost.judging import Costs
from cdka.machine import cores
from cdka.runs.resolve import ResolvedRun

SILENCE_LIMIT_S = 900.0
"""A measuring child that reports nothing for so long is given up: loading a large model takes minutes."""
SAME_SPEED = (
    "model",
    "task",
    "task_options",
    "batch_size",
    "max_length",
    "overlong",
    "chat_template",
    "system_prompt",
    "group_by_length",
    "dtype",
    "device",
    "gradient_accumulation",
    "gradient_checkpointing",
    "num_processes",
)
"""The settings that decide the speed, beside full fine-tuning or an adapter."""


@dataclass(frozen=True)
class Measurement:
    """Seconds to load and to prepare, the costs of training and judging, and the sizes of the data.

    ``prepare_s`` is without the measuring itself, which takes ``measure_s``; a run whose judging is ``auto`` repeats
    it. ``generates`` is True where answers are generated.
    """

    load_s: float
    prepare_s: float
    measure_s: float
    costs: Costs
    train_of: int
    eval_of: int
    test_of: int
    generates: bool

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Measurement:
        """The measurement that ``dataclasses.asdict`` made plain."""
        return cls(**{**body, "costs": Costs(**body["costs"])})


def measured(run: ResolvedRun, home: Path) -> Measurement | None:
    """The measurement kept in the home for runs of this speed; None where there is none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return Measurement.from_dict(json.loads(_file(run, home).read_text(encoding="utf-8")))
    return None


def measure(run: ResolvedRun, home: Path) -> Generator[dict[str, Any], None, Measurement]:
    """Measure the speed of a run and keep it in the home; yields ``{"phase": ...}`` meanwhile, returns the result.

    Raises CdkaError for data or a model that cannot be loaded. The run's own result is not touched.
    """
    found = yield from childproc.stream(
        "cdka.train.probe:probe",
        {"spec": run.spec.to_dict()},
        silence_limit_s=SILENCE_LIMIT_S,
        failure=f"the speed of {run.spec.model!r} could not be measured",
    )
    file = _file(run, home)
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(file)
    return Measurement.from_dict(found)


def to_dict(measurement: Measurement) -> dict[str, Any]:
    """Plain data for JSON; ``Measurement.from_dict`` is its inverse."""
    return asdict(measurement)


def _file(run: ResolvedRun, home: Path) -> Path:
    settings = run.spec.to_dict()
    key = [{name: settings[name] for name in SAME_SPEED}, run.spec.method == "full", cores()]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return home / "measured" / f"{digest[:20]}.json"
