"""The measure of a comparison: a metric, and the rule that reads one number off each run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdka.errors import CdkaError, unknown
from cdka.runs.events import Evaluated
from cdka.runs.frames import SETTINGS
from cdka.runs.metrics import (
    EVAL_ACCURACY,
    EVAL_BEST_ACCURACY,
    EVAL_LOSS,
    TEST_ACCURACY,
    TEST_LOSS,
    TRAIN_LOSS,
    full_name,
    words_of,
)
from cdka.stats.intervals import SHARE, UNBOUNDED

FINAL, BEST, STEP = "final", "best", "step"
AGGREGATIONS = (FINAL, BEST, STEP)
_LOWER = ("loss", "perplexity", "mse", "mae", "seconds", "num_params", "bytes", "error", "elapsed")
_FIRST = (TEST_ACCURACY, "test/spearman", EVAL_ACCURACY, EVAL_LOSS, TEST_LOSS, TRAIN_LOSS)
_NOT_METRICS = frozenset(
    (
        *SETTINGS,
        "created_at",
        "arm",
        "arm_label",
        "value",
        "best_step",
        "test/examples",
        "eval/examples",
        "steps_done",
        "attempt",
        "phase",
    )
)


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """The metrics that the runs of ``frame`` have values for, accuracies and losses first."""
    found = [
        name
        for name in frame.columns
        if name not in _NOT_METRICS and pd.api.types.is_numeric_dtype(frame[name]) and frame[name].notna().any()
    ]
    return sorted(found, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def usual_metric(frame: pd.DataFrame) -> str:
    """The metric to compare by: the test accuracy, or where no run has one the first of ``metrics_of``."""
    known = metrics_of(frame)
    return TEST_ACCURACY if TEST_ACCURACY in known or not known else known[0]


def measured_along_the_way(metric: str) -> bool:
    """True for what every evaluation measures: the metrics of the validation split."""
    return metric.startswith("eval/") and metric not in (EVAL_BEST_ACCURACY, "eval/examples")


@dataclass(frozen=True)
class Measure:
    """One number per run: ``metric`` at the end, at its best on validation, or on validation at ``step``.

    The test metrics are read once, at the end; everything along the way is validation. The short names of 0.1.0 are
    understood: ``accuracy`` is ``test/accuracy`` at the end and ``eval/accuracy`` along the way, ``loss`` is
    ``eval/loss``. Raises CdkaError for an unknown aggregation, a step that is missing, or a metric without a curve.
    """

    metric: str = "accuracy"
    at: str = FINAL
    step: int | None = None

    def __post_init__(self) -> None:
        if self.at not in AGGREGATIONS:
            raise unknown("aggregation", self.at, AGGREGATIONS)
        object.__setattr__(self, "metric", full_name(self.metric, along_the_way=self.at != FINAL))
        if self.at != FINAL and not measured_along_the_way(self.metric):
            raise CdkaError(
                f"only metrics of the validation split are measured along the way: got metric={self.metric!r} with "
                f"aggregation {self.at!r}. Use {EVAL_ACCURACY}, {EVAL_LOSS}, or aggregation final."
            )
        if (self.at == STEP) != (self.step is not None) or (self.step is not None and self.step < 0):
            raise CdkaError(f"aggregation step needs a step of at least 0, others none: got step={self.step!r}.")

    @property
    def higher_is_better(self) -> bool:
        """True for accuracies and scores, False for losses and costs."""
        return not any(word in self.metric for word in _LOWER)

    @property
    def is_share(self) -> bool:
        """True for what lies between 0 and 1."""
        return self.metric.endswith("accuracy")

    @property
    def bounds(self) -> tuple[float, float]:
        """The values that the measure can take."""
        return SHARE if self.is_share else UNBOUNDED

    @property
    def header(self) -> str:
        """The words that stand above every number of this measure."""
        words = words_of(self.metric)
        if self.at == STEP:
            return f"{words} at step {self.step}"
        if self.at == BEST:
            return f"best {words} of each run"
        return f"{words} at the end" if self.metric in _FIRST else words

    def values(self, frame: pd.DataFrame, curves: pd.DataFrame | None = None) -> pd.Series:
        """One float per row of ``frame``, NaN where the run has none (yet).

        Best and step read the evaluations in ``curves`` (``Store.curves``), and best falls back on the run's own
        record. Raises CdkaError where no run knows the metric, or none was evaluated at the step.
        """
        if self.at == FINAL:
            if self.metric not in frame.columns:
                raise unknown("metric", self.metric, metrics_of(frame), next_step="It appears once a run is done.")
            return self._clean(frame[self.metric])
        found = self._from_curves(frame, curves)
        if self.at == BEST and self.metric == EVAL_ACCURACY and EVAL_BEST_ACCURACY in frame.columns:
            found = found.fillna(self._clean(frame[EVAL_BEST_ACCURACY]))
        return found

    def _from_curves(self, frame: pd.DataFrame, curves: pd.DataFrame | None) -> pd.Series:
        missing = pd.Series(np.nan, index=frame.index)
        if curves is None or curves.empty:
            return missing
        if self.metric not in curves.columns:
            raise unknown("metric", self.metric, [name for name in curves.columns if measured_along_the_way(name)])
        evals = curves[(curves["kind"] == Evaluated.kind) & curves["run_id"].isin(frame["run_id"])]
        if self.at == STEP and self.step is not None:
            steps = sorted(int(step) for step in evals["step"].unique())
            if steps and self.step not in steps:
                asked = self.step
                near = min(steps, key=lambda step: abs(step - asked))
                raise CdkaError(f"no run was evaluated at step {self.step}. The nearest evaluation is at step {near}.")
            evals = evals[evals["step"] == self.step]
        by_run = evals.groupby("run_id", observed=True)[self.metric]
        one = by_run.max() if self.higher_is_better else by_run.min()
        return self._clean(frame["run_id"].map(one.to_dict()))

    @staticmethod
    def _clean(column: pd.Series) -> pd.Series:
        return pd.to_numeric(column, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
