"""Read a bundle of format 1, as 0.1.0 wrote it: its runs and curves under today's names of metrics and models."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cdka.models.catalogue import name_today
from cdka.runs.events import Evaluated, Step
from cdka.runs.frames import CURVE_COLUMNS
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, TRAIN_LOSS, from_old_names

OLD_CURVE_COLUMNS = (
    "run_id",
    "kind",
    "step",
    "samples",
    "tokens",
    "elapsed_s",
    "accuracy",
    "loss",
    "lr",
    "grad_norm",
)


def runs_of_format_1(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with their metrics and base models renamed; everything else is as it was."""
    return [
        {
            **run,
            "metrics": from_old_names(run["metrics"]),
            "spec": {**run["spec"], "model": name_today(run["spec"]["model"], "0.1.0")},
        }
        for run in runs
    ]


def curves_of_format_1(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with one column for each metric: a loss was that of the batch or of validation, by the row's kind."""
    evaluated, step = curves["kind"] == Evaluated.kind, curves["kind"] == Step.kind
    named = curves.assign(
        **{
            TRAIN_LOSS: curves["loss"].where(step),
            EVAL_ACCURACY: curves["accuracy"].where(evaluated),
            EVAL_LOSS: curves["loss"].where(evaluated),
        }
    )
    return named[list(CURVE_COLUMNS)]
