"""The tables of the run store, and the runs and events that their rows stand for."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdka.models.catalogue import name_today
from cdka.runs.run import Run, run_directory
from cdka.runs.spec import RunSpec
from cdka.runs.states import LIVE, RunState

SCHEMA_VERSION = 4
"""Raise it together with a migration in ``migrations.py``."""
APPLICATION_ID = 0x43444B41  # "CDKA": tells our file from any other database

ENGINE = "coalesce(CASE WHEN json_valid(spec) THEN json_extract(spec, '$.engine') END, 'local')"
"""The engine of a row of ``runs``, as an expression: runs of older versions name none."""
UNDECIDED = "coalesce(CASE WHEN json_valid(plan) THEN json_extract(plan, '$.halving.over') END, 1) = 0"
"""True of a row of ``sweeps`` whose halving has a decision to come, as an expression."""
HALVING_INDEX = f"CREATE INDEX sweeps_undecided ON sweeps (sweep_id) WHERE {UNDECIDED}"
QUEUE_INDEX = f"CREATE INDEX runs_by_engine ON runs (status, {ENGINE}, position, n)"
SCHEMA = (
    """
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
    + f"{QUEUE_INDEX};\n{HALVING_INDEX};\n"
)


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


_DATE = "strftime('%Y-%m-%d %H:%M', created_at, 'unixepoch', 'localtime')"
_STATE = "status || CASE status WHEN 'queued' THEN ' waiting' WHEN 'stopped' THEN ' kept' ELSE '' END"
_OF_A_RUN = " || ' ' || ".join(("run_id", "coalesce(sweep_id, '')", _STATE, "spec", "coalesce(error, '')", _DATE))
_OF_A_SWEEP = (
    "sweep_id || ' ' || name || ' ' || CASE WHEN json_valid(plan) THEN json_extract(plan, '$.model', '$.task',"
    f" '$.base.model', '$.base.task', '$.tags', '$.note') ELSE '' END || ' ' || {_DATE}"
)
_NUMBERED = {
    "seed": "$.seed",
    "r1": "$.components[0]",
    "r2": "$.components[1]",
    "r": "$.components[2]",
    "rank": "$.rank",
    "lora": "$.rank",
}
"""The settings of a run that are asked for by a word and a number behind it."""
_ASKED = re.compile(rf"\b({'|'.join(_NUMBERED)})\s+(\d+)\b", re.IGNORECASE)


def _found(column: str, text: str) -> tuple[list[str], list[Any]]:
    """The conditions that every word of ``text`` occurs in ``column``, in any case, and their values."""
    words = [word for word in text.split() if word != "·"]
    escaped = ["".join(f"\\{c}" if c in "%_\\" else c for c in word) for word in words]
    return [f"{column} LIKE ? ESCAPE '\\'"] * len(words), [f"%{word}%" for word in escaped]


def runs_where(
    *,
    status: str | Iterable[str] | None = None,
    sweep_id: str | Iterable[str] | None = None,
    ids: Iterable[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    text: str | None = None,
    since: float | None = None,
) -> tuple[str, list[Any]]:
    """The condition on rows of ``runs``, empty or beginning with WHERE, and its values. See ``Store.runs``."""
    where: list[str] = []
    values: list[Any] = []
    for column, wanted in (("status", status), ("sweep_id", sweep_id), ("run_id", ids)):
        if wanted is not None:  # as one value: SQLite allows some thousands of placeholders
            where.append(f"{column} IN (SELECT value FROM json_each(?))")
            values.append(json.dumps([wanted] if isinstance(wanted, str) else list(wanted)))
    asked = [(f"$.{name}", value) for name, value in (settings or {}).items() if value is not None]
    asked += [(_NUMBERED[name.lower()], int(number)) for name, number in _ASKED.findall(text or "")]
    where += ["json_valid(spec) AND json_extract(spec, ?) = ?"] * len(asked)
    values += [part for pair in asked for part in pair]
    if since is not None:
        where.append("created_at >= ?")
        values.append(since)
    rest = _ASKED.sub(lambda asked: "lora" if asked[1].lower() == "lora" else "", text or "")
    conditions, patterns = _found(f"({_OF_A_RUN})", rest)
    return _joined([*where, *conditions]), [*values, *patterns]


def sweeps_where(
    *,
    ids: Iterable[str] | None = None,
    plan: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    text: str | None = None,
    finished: bool | None = None,
    since: float | None = None,
) -> tuple[str, list[Any]]:
    """The condition on rows of ``sweeps``, empty or beginning with WHERE, and its values. See ``Store.sweeps``."""
    where, values = _found(f"({_OF_A_SWEEP})", text or "")
    if ids is not None:
        where.append("sweep_id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(list(ids)))
    for name, value in (plan or {}).items():
        where.append("json_valid(plan) AND json_extract(plan, ?) = ?")
        values += [f"$.{name}", value]
    if since is not None:
        where.append("created_at >= ?")
        values.append(since)
    if settings := {name: value for name, value in (settings or {}).items() if value is not None}:
        condition, asked = runs_where(settings=settings)
        where.append(f"EXISTS (SELECT 1 FROM runs{condition} AND runs.sweep_id = sweeps.sweep_id)")
        values += asked
    if finished is not None:
        busy = ", ".join(f"'{state}'" for state in (RunState.QUEUED, *LIVE))
        some = f"EXISTS (SELECT 1 FROM runs WHERE runs.sweep_id = sweeps.sweep_id AND status IN ({busy}))"
        where.append(f"NOT {some}" if finished else some)
    return _joined(where), values


def _joined(where: list[str]) -> str:
    return " WHERE " + " AND ".join(where) if where else ""


def marks(values: Iterable[Any]) -> str:
    """As many SQL placeholders as there are values."""
    return ",".join("?" for _ in values)
