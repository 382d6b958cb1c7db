"""Turn rows of the database into runs and events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdka.models.catalogue import name_today
from cdka.runs.ids import run_directory
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec


@lru_cache(maxsize=4096)
def parse_spec(text: str, version: str) -> RunSpec:
    """The spec that ``version`` stored as ``text``. Cached: the Studio reads the same rows every second."""
    fields = json.loads(text)
    return RunSpec.from_dict({**fields, "model": name_today(fields["model"], version)})


def run_of(row: sqlite3.Row, home: Path) -> Run:
    """The record of one row of ``runs``."""
    return Run(
        run_id=row["run_id"],
        sweep_id=row["sweep_id"],
        spec=parse_spec(row["spec"], row["version"]),
        status=row["status"],
        phase=row["phase"],
        attempt=row["attempt"],
        step=row["step"],
        num_params=row["num_params"],
        metrics=json.loads(row["metrics"]),
        error=row["error"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        directory=run_directory(home, row["run_id"]),
        pack_id=row["pack_id"],
        stop_requested=row["stop_requested"],
        samples=row["samples"],
        elapsed_s=row["elapsed_s"],
        last_eval=json.loads(row["last_eval"]) if row["last_eval"] else {},
        peak_bytes=row["peak_bytes"],
        progress=json.loads(row["progress"]) if row["progress"] else {},
        heartbeat_at=row["heartbeat_at"],
        worked_s=row["worked_s"],
        first_step=row["first_step"],
    )


def events_of(rows: Iterable[tuple[int, float, str]]) -> list[dict[str, Any]]:
    """Events from rows of (seq, at, body): ``seq`` and ``at`` (Unix seconds) are added to each body."""
    rows = list(rows)
    events = json.loads("[" + ",".join(row[2] for row in rows) + "]")  # one call parses thousands at once
    for event, row in zip(events, rows, strict=True):
        event["seq"], event["at"] = row[0], row[1]
    return events


def marks(values: Iterable[Any]) -> str:
    """As many SQL placeholders as there are values."""
    return ",".join("?" for _ in values)
