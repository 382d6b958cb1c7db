"""Runs as pandas DataFrames, for comparing and plotting."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from cdka.runs.database import Database
from cdka.runs.events import Evaluated, Resumed, Step
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, TRAIN_LOSS
from cdka.runs.run import Run
from cdka.runs.schema import events_of, marks

_WHOLE = ("r1", "r2", "r", "rank", "num_params")
CURVE_COLUMNS = (
    "run_id",
    "kind",
    "step",
    "samples",
    "tokens",
    "elapsed_s",
    TRAIN_LOSS,
    EVAL_ACCURACY,
    EVAL_LOSS,
    "lr",
    "grad_norm",
)
"""The columns of every table of curves; the further scores of a task (``eval/f1``) follow them."""
_AT_A_TIME = 500  # SQLite allows some thousands of placeholders


SETTINGS = (
    "run_id",
    "sweep_id",
    "model",
    "task",
    "method",
    "label",
    "r1",
    "r2",
    "r",
    "rank",
    "alpha",
    "scaling_rule",
    "lr",
    "steps",
    "batch_size",
    "seed",
    "status",
)
"""The first columns of a frame of runs: what each of them is, not how it did."""


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: ids, the settings that differ between runs, status, num_params, seconds, created_at, peak_bytes,
    and every metric as a column of its own name (missing where a run has none).

    ``r1``, ``r2``, ``r`` are missing for methods without components, ``rank`` for those without a rank.
    """
    rows = []
    for run in runs:
        spec, parts = run.spec, run.spec.components
        own = {
            "run_id": run.run_id,
            "sweep_id": run.sweep_id,
            "model": spec.model,
            "task": spec.task,
            "method": spec.method,
            "label": spec.label,
            "r1": parts and parts.r1,
            "r2": parts and parts.r2,
            "r": parts and parts.r,
            "rank": spec.rank,
            "alpha": spec.alpha,
            "scaling_rule": spec.scaling_rule,
            "lr": spec.lr,
            "steps": spec.steps,
            "batch_size": spec.batch_size,
            "seed": spec.seed,
            "status": str(run.status),
            "num_params": run.num_params,
            "seconds": run.seconds,
            "created_at": run.created_at,
            "peak_bytes": run.peak_bytes,
        }
        rows.append({**{key: value for key, value in run.metrics.items() if key not in own}, **own})
    first = [
        *SETTINGS,
        "num_params",
        "seconds",
        "created_at",
        "peak_bytes",
    ]
    table = pd.DataFrame(rows, columns=first if not rows else None)
    table = table[first + [column for column in table.columns if column not in first]]
    return table.astype({**dict.fromkeys(_WHOLE, "Int64"), "peak_bytes": "Int64", "seconds": "float64"})


def csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV. A text that a spreadsheet would take for a formula begins with an apostrophe there."""
    texts = {name: frame[name].map(_no_formula) for name in frame.columns if not is_numeric_dtype(frame[name])}
    return frame.assign(**texts).rename(columns=_no_formula).to_csv(index=False).encode()


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def curves(database: Database, run_ids: Iterable[str]) -> pd.DataFrame:
    """One row per update (kind "step") and per evaluation (kind "eval"), each metric in a column of its own.

    Points come in the order of the runs asked for, then in time. An attempt that resumed from a checkpoint is
    preceded by what earlier attempts did up to that step, so that each run has one unbroken curve.
    """
    run_ids = list(dict.fromkeys(run_ids))
    found: dict[str, list[dict]] = {}
    with database.read() as sql:
        for start in range(0, len(run_ids), _AT_A_TIME):
            some = run_ids[start : start + _AT_A_TIME]
            query = f"SELECT n, run_id, attempt FROM runs WHERE run_id IN ({marks(some)})"
            for n, run_id, attempt in sql.execute(query, some).fetchall():
                found[run_id] = _points(sql, n, attempt)
    columns = [*CURVE_COLUMNS, *_further_scores(found.values())]
    rows = [
        (run_id, *(point.get(column) for column in columns[1:]))
        for run_id in run_ids
        for point in found.get(run_id, ())
    ]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"step": "int64", **dict.fromkeys(columns[4:], "float64")})


def _further_scores(points: Iterable[list[dict[str, Any]]]) -> list[str]:
    """The metrics of the evaluations that are not among ``CURVE_COLUMNS``."""
    evaluations = (point for own in points for point in own if point["kind"] == Evaluated.kind)
    return sorted({name for point in evaluations for name in point if "/" in name} - set(CURVE_COLUMNS))


def _points(sql: sqlite3.Cursor, n: int, attempt: int) -> list[dict[str, Any]]:
    events = events_of(
        map(
            tuple,
            sql.execute(
                "SELECT seq, at, body FROM events WHERE n = ? AND attempt = ? AND kind IN (?, ?, ?) ORDER BY seq",
                (n, attempt, Resumed.kind, Step.kind, Evaluated.kind),
            ),
        )
    )
    points = [event for event in events if event["kind"] != Resumed.kind]
    resumed = next((event["step"] for event in events if event["kind"] == Resumed.kind), 0)
    if resumed and attempt > 1:
        before = [point for point in _points(sql, n, attempt - 1) if point["step"] <= resumed]
        spent = before[-1]["elapsed_s"] if before else 0.0
        points = before + [{**point, "elapsed_s": spent + point["elapsed_s"]} for point in points]
    return points


def predictions(database: Database, run_id: str) -> pd.DataFrame:
    """The test predictions of the last attempt: example, label, predicted. Empty unless the run is kept."""
    with database.read() as sql:
        row = sql.execute(
            "SELECT p.body FROM predictions p JOIN runs r ON r.n = p.n AND r.attempt = p.attempt"
            " WHERE r.run_id = ? AND r.status IN ('done', 'stopped')",
            (run_id,),
        ).fetchone()
    columns = ["example", "label", "predicted"]
    body = json.loads(row["body"]) if row else {}
    return pd.DataFrame({column: pd.Series(body.get(column, []), dtype=None) for column in columns})
