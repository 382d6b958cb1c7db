"""The tables of the run store, and the runs and events that their rows stand for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdka.models.catalogue import name_today
from cdka.runs.run import Run, run_directory
from cdka.runs.spec import RunSpec

SCHEMA_VERSION = 3
"""Raise it together with a migration in ``migrations.py``."""
APPLICATION_ID = 0x43444B41  # "CDKA": tells our file from any other database

SCHEMA = """
CREATE TABLE sweeps (
    sweep_id   TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    plan       TEXT NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE runs (
    n              INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id         TEXT NOT NULL UNIQUE,
    sweep_id       TEXT REFERENCES sweeps (sweep_id),
    pack_id        TEXT,
    position       INTEGER NOT NULL,
    spec           TEXT NOT NULL,
    version        TEXT NOT NULL,
    status         TEXT NOT NULL,
    stop_requested TEXT CHECK (stop_requested IN ('keep', 'cancel')),
    attempt        INTEGER NOT NULL DEFAULT 0,
    phase          TEXT,
    progress       TEXT,
    step           INTEGER NOT NULL DEFAULT 0,
    first_step     INTEGER NOT NULL DEFAULT 0,
    samples        INTEGER NOT NULL DEFAULT 0,
    elapsed_s      REAL,
    last_eval      TEXT,
    num_params     INTEGER,
    peak_bytes     INTEGER,
    metrics        TEXT NOT NULL DEFAULT '{}',
    error          TEXT,
    created_at     REAL NOT NULL,
    started_at     REAL,
    heartbeat_at   REAL,
    finished_at    REAL,
    worked_s       REAL
);
CREATE INDEX runs_by_status ON runs (status, position);
CREATE INDEX runs_by_sweep ON runs (sweep_id);
CREATE TABLE attempts (
    n             INTEGER NOT NULL REFERENCES runs (n) ON DELETE CASCADE,
    attempt       INTEGER NOT NULL,
    job_id        TEXT NOT NULL,
    slot          TEXT NOT NULL,
    pid           INTEGER,
    process_start TEXT,
    boot_id       TEXT,
    started_at    REAL NOT NULL,
    finished_at   REAL,
    status        TEXT,
    error         TEXT,
    versions      TEXT,
    PRIMARY KEY (n, attempt)
) WITHOUT ROWID;
CREATE INDEX attempts_by_job ON attempts (job_id);
CREATE TABLE events (
    n       INTEGER NOT NULL REFERENCES runs (n) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    at      REAL NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (n, attempt, seq)
) WITHOUT ROWID;
CREATE TABLE predictions (
    n       INTEGER NOT NULL REFERENCES runs (n) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (n, attempt)
) WITHOUT ROWID;
CREATE TABLE requests (
    request_id TEXT PRIMARY KEY,
    answer     TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;
"""


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
