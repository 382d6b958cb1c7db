"""The request for a measurement: a model, a task, some batches, and a grid of components. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.shapes import ModelShapes
from cdka.models.targets import select
from cdka.paths import assets_dir, expanded
from cdka.solver.feasible import common_values
from cdka.tasks.catalogue import find_task
from cdka.theory.alignment import STEPS

MAX_R1, MAX_R2, DEFAULT_R = 16, 64, (1, 2, 4, 8)
VERSION = 1


@dataclass(frozen=True)
class AlignRequest:
    """One measurement, complete enough to be repeated: the same request gives the same numbers.

    ``batches`` batches of ``batch_size`` training examples are drawn by ``seed``; their mean loss is backpropagated
    once through the frozen model. Each (r1, r2, r) of the grid is measured with ``inits`` random initialisations.
    ``step`` is what counts as the first step (see ``cdka.theory.alignment.STEPS``). ``task_options`` name data of the
    user's own, as in a run. Raises CdkaError for bad values.
    """

    model: str
    task: str
    batches: int = 1
    batch_size: int = 64
    seed: int = 0
    target_modules: str | tuple[str, ...] = "all-linear"
    r1_values: tuple[int, ...] = ()
    r2_values: tuple[int, ...] = ()
    r_values: tuple[int, ...] = DEFAULT_R
    inits: int = 5
    step: str = "gradient"
    task_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        find_task(self.task)
        if self.step not in STEPS:
            raise CdkaError(f"step must be one of {', '.join(STEPS)}: got {self.step!r}.")
        for name, least in (("batches", 1), ("batch_size", 1), ("seed", 0), ("inits", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CdkaError(f"{name} must be an integer of at least {least}: got {value!r}.")
        if not isinstance(self.target_modules, str):
            object.__setattr__(self, "target_modules", tuple(self.target_modules))
        for name in ("r1_values", "r2_values", "r_values"):
            values = tuple(sorted(set(getattr(self, name))))
            if any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
                raise CdkaError(f"{name} must be positive integers: got {getattr(self, name)!r}. Example: 1,2,4.")
            object.__setattr__(self, name, values)
        if not self.r_values:
            raise CdkaError("r_values must hold at least one number of components. Example: 1,2,4.")

    def with_grid(self) -> AlignRequest:
        """The request with its grid filled in: every common divisor up to 16 for r1 and 64 for r2.

        Raises CdkaError where a given value does not divide all target modules.
        """
        linears = select(self.shapes(), self.target_modules)
        fit_r1, fit_r2 = common_values(linears)
        grid: dict[str, Any] = {}
        for name, values, fit, most in (
            ("r1", self.r1_values, fit_r1, MAX_R1),
            ("r2", self.r2_values, fit_r2, MAX_R2),
        ):
            wrong = [v for v in values if v not in fit]
            if wrong:
                raise CdkaError(
                    f"{name} must divide every target module: got {name}={wrong[0]}. "
                    f"Possible: {', '.join(map(str, fit))}."
                )
            grid[f"{name}_values"] = values or tuple(v for v in fit if v <= most)
        return replace(self, **grid)

    def shapes(self) -> ModelShapes:
        """The shapes of the request's model."""
        return find_model(self.model)

    @property
    def gradient_key(self) -> str:
        """Digest of all that the gradients depend on: model and weights, task, batches, seed, target modules."""
        parts = [self.model, _weights_stamp(self.model), self.task, self.batches, self.batch_size, self.seed]
        own = [dict(sorted(self.task_options.items()))] if self.task_options else []
        return _digest([*parts, self.target_modules, *own])

    @property
    def key(self) -> str:
        """Digest of all that the whole measurement depends on."""
        grid = [self.r1_values, self.r2_values, self.r_values, self.inits, self.step]
        return _digest([self.gradient_key, *grid])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` is its inverse."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AlignRequest:
        """The request that ``to_dict`` wrote."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**values)


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()[:20]


def _weights_stamp(model: str) -> list[list[int]]:
    """Sizes and times of a local model's weights: a rebuilt model gets fresh gradients."""
    for directory in (assets_dir() / model, expanded(model)):
        if directory.is_dir():
            return [[f.stat().st_size, f.stat().st_mtime_ns] for f in sorted(directory.glob("*.safetensors"))]
    return []
