"""The tables of the run store."""

from __future__ import annotations

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
