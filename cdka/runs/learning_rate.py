"""The learning rate that ``--lr auto`` stands for: measured by a shipped study of rates, else the task's recipe's.

``cdka study rates`` measures the best rate of CDKA and of LoRA on several base models; its report carries them. They
hold for the model, the task, the alpha and the number of steps of that study. At another alpha the rate is moved so
that the first step keeps its size, which is our guess and was not measured. (ours)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cdka.formatting import plural
from cdka.paths import assets_dir
from cdka.runs.spec import AUTO, RunSpec


@dataclass(frozen=True)
class Measured:
    """The best rate of a method on the base models of one study: geometric mean and 95 % interval over bases.

    ``apart`` is the mean over bases of the distance between the best rates of the sizes tried, in doublings.
    """

    method: str
    models: tuple[str, ...]
    task: str
    lr: float
    low: float
    high: float
    alpha: float
    steps: int
    sizes: tuple[str, ...]
    apart: float
    report: str


@dataclass(frozen=True)
class Recommended:
    """A learning rate, its 95 % interval over base models where one was measured, and its source in one sentence."""

    lr: float
    source: str
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None else f" (95 % interval {self.low:.2g} to {self.high:.2g})"
        return f"{self.lr:g}{ends}: {self.source}"


@lru_cache(maxsize=1)
def measured_rates() -> tuple[Measured, ...]:
    """The best rates that shipped reports carry."""
    found = []
    for path in sorted((assets_dir() / "studies").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for study in document.get("studies", ()):
            for one in study.get("recommended", ()):
                tuples = {key: tuple(one[key]) for key in ("models", "sizes")}
                found.append(Measured(**{**one, **tuples, "task": document["task"], "report": f"{path.stem}.md"}))
    return tuple(found)


def recommended(spec: RunSpec, known: Iterable[Measured] | None = None) -> Recommended:
    """The learning rate to take for a run whose ``lr`` is that of its task's recipe.

    ``known`` are the measured rates, those of the shipped reports where None.
    """
    rates = measured_rates() if known is None else known
    own = next((m for m in rates if (m.method, m.task) == (spec.method, spec.task) and spec.model in m.models), None)
    if own is None:
        where = f"{spec.method} on {spec.model} and {spec.task}"
        return Recommended(spec.lr, f"that of the recipe; no study of rates was made with {where}")
    factor = 1.0
    if spec.scaling is not None:
        reference = spec.with_(alpha=own.alpha, scaling_rule="sqrt_r_r2").scaling or spec.scaling
        factor = reference / spec.scaling
    moved = "" if abs(factor - 1) < 1e-9 else f", moved from alpha {own.alpha:g} by the size of the first step"
    source = (
        f"best for {', '.join(own.sizes)} over {plural(len(own.models), 'base model')} at alpha {own.alpha:g} and "
        f"{own.steps} steps, sizes {own.apart:.1f} doublings apart ({own.report}){moved}"
    )
    lr, low, high = (float(f"{value * factor:.2g}") for value in (own.lr, own.low, own.high))
    return Recommended(lr, source, low, high)


def is_auto(settings: Mapping[str, Any]) -> bool:
    """True where the settings leave the learning rate to ``recommended``."""
    return settings.get("lr") == AUTO


__all__ = ["Measured", "Recommended", "is_auto", "measured_rates", "recommended"]
