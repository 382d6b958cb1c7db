"""The runs of one regime of a study, and the numbers that a rule makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdka.compare import Comparison, Measure, StoreSource, compare
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.metrics import measure_of
from cdka.runs.run import Run
from cdka.runs.store import Store


@dataclass(frozen=True)
class Evidence:
    """One value per seed (or per base model), oriented so that positive supports the claim, and what it measures.

    ``unit`` names the reported effect, ``sign * value - shift``; ``counted`` is what there is one value of.
    """

    values: np.ndarray
    unit: str
    sign: float = 1.0
    shift: float = 0.0
    remark: str = ""
    bound: float = np.inf
    """No effect can be larger: an interval of a few seeds is cut off there."""
    counted: str = "seed"
    better: tuple[int, int] | None = None
    """(comparisons in which the first side did better, all of them) where the values are means over several."""
    interval: tuple[float, float, float, int] | None = None
    """(low, high, p, n) where another sample than ``values`` is drawn from: then ``values`` is the one estimate."""


@dataclass(frozen=True)
class Case:
    """The runs of one regime and how they are measured. ``searched``: each arm at its best rate on validation."""

    store: Store
    runs: list[Run]
    metric: str
    searched: bool

    def compared(self) -> Comparison:
        """The arms of the regime."""
        source = StoreSource(self.store, run_ids=[run.run_id for run in self.runs])
        return compare(source, Measure(metric=self.metric), choose_lr=self.searched)

    @property
    def measure(self) -> str:
        """The metric without its split, as the sentences name it."""
        return measure_of(self.metric)

    @property
    def layers(self) -> list:
        """The layers that the runs adapt."""
        return list(select(find_model(self.runs[0].spec.model), self.runs[0].spec.target_modules))
