"""The speed of a run on this machine, measured once in a child process and kept in the home. (ours)

A measurement loads the model and the data, and times one update, the loss of a few examples and a few tokens of an
answer. It holds for all runs with the same model, data, batch and precision, whatever their adapter: the frozen base
takes most of the time. It is made on as many threads as the run will have, and where several jobs will run side by
side, with as many measurements side by side: they share the memory's bandwidth.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cdka import childproc
from cdka.cost.judging import MIN_EXAMPLES, Costs, Judging, affordable
from cdka.runs.resolve import ResolvedRun
from cdka.runs.spec import RunSpec

SILENCE_LIMIT_S = 900.0
"""A measuring child that reports nothing for so long is given up: loading a large model takes minutes."""
MAX_AT_ONCE = 8
"""Measurements beside more jobs than this are not looked for."""
FORMAT = 8
"""Raised whenever speed is measured differently, so that what was kept before is not used."""
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
    "engine",
    "gradient_accumulation",
    "gradient_checkpointing",
    "num_processes",
    "retain",
)
"""The settings that decide the speed, beside full fine-tuning or an adapter."""


@dataclass(frozen=True)
class Measurement:
    """Seconds to start, to load and to prepare, the costs of training and judging, and the sizes of the data.

    ``prepare_s`` is without the measuring itself, which takes ``measure_s``; a run whose judging is ``auto`` repeats
    it. ``generates`` is True where answers are generated. ``retained_s`` is one judging of what is to be retained.
    ``start_s`` is a fresh process with its imports, which a worker of an engine that is ready does without.
    ``cut`` counts the training examples longer than ``max_length``; with those left out, ``train_of`` counts all.
    """

    load_s: float
    prepare_s: float
    measure_s: float
    costs: Costs
    train_of: int
    eval_of: int
    test_of: int
    generates: bool
    retained_s: float = 0.0
    cut: int = 0
    start_s: float = 0.0

    def judging(self, spec: RunSpec, least: Mapping[str, int] = MIN_EXAMPLES) -> Judging:
        """The examples that a run of this speed will judge, ``auto`` being at least ``least``."""
        sizes = {"eval": self.eval_of, "generate": self.eval_of if self.generates else 0, "test": self.test_of}
        asked = {"eval": spec.eval_examples, "generate": spec.generate_examples, "test": spec.test_examples}
        chosen = affordable(spec, asked, sizes, self.costs, generates=self.generates, least=least)
        return Judging(**chosen, eval_of=self.eval_of, test_of=self.test_of, costs=self.costs)

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Measurement:
        """The measurement that ``dataclasses.asdict`` made plain."""
        return cls(**{**body, "costs": Costs(**body["costs"])})


@dataclass(frozen=True)
class Load:
    """The circumstances of a job: its CPU threads, and the jobs ``at_once`` on this machine, itself included."""

    threads: int
    at_once: int = 1


def measured(run: ResolvedRun, home: Path, load: Load) -> Measurement | None:
    """The measurement kept in the home for runs of this speed; None where there is none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return Measurement.from_dict(json.loads(_file(run, home, load).read_text(encoding="utf-8")))
    return None


def costs_known(run: ResolvedRun, home: Path, threads: int) -> Costs | None:
    """The costs kept in the home for runs of this speed on so many threads, beside as few other jobs as were measured.

    None where nothing was measured. A run at work does not know what runs beside it.
    """
    found = (measured(run, home, Load(threads, at_once)) for at_once in range(1, MAX_AT_ONCE + 1))
    return next((measurement.costs for measurement in found if measurement is not None), None)


def measure(run: ResolvedRun, home: Path, load: Load) -> Generator[dict[str, Any], None, Measurement]:
    """Measure the speed of a run and keep it in the home; yields ``{"phase": ...}`` meanwhile, returns the result.

    Raises CdkaError for data or a model that cannot be loaded. The run's own result is not touched.
    """
    function, request = "cdka.train.probe:probe", {"spec": run.spec.to_dict(), "threads": load.threads}
    failure = f"the speed of {run.spec.model!r} could not be measured"
    with ExitStack() as others:
        for _ in range(load.at_once - 1):
            others.enter_context(childproc.ChildProcess(function, request, failure=failure))
        found = yield from childproc.stream(function, request, silence_limit_s=SILENCE_LIMIT_S, failure=failure)
    file = _file(run, home, load)
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(file)
    return Measurement.from_dict(found)


def to_dict(measurement: Measurement) -> dict[str, Any]:
    """Plain data for JSON; ``Measurement.from_dict`` is its inverse."""
    return asdict(measurement)


def _file(run: ResolvedRun, home: Path, load: Load) -> Path:
    settings = run.spec.to_dict()
    key = [{name: settings[name] for name in SAME_SPEED}, run.spec.method == "full", asdict(load), FORMAT]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return home / "measured" / f"{digest[:20]}.json"
