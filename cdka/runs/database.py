"""The SQLite file under the store: its schema, its transactions, and its troubles told in one line."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cdka.errors import CdkaError

FILE_NAME = "runs.sqlite3"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x43444B41  # "CDKA": tells our file from any other database
BUSY_S = 10.0
"""How long a transaction waits for another program's before it gives up."""

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_SCHEMA = """
CREATE TABLE sweeps (
    sweep_id   TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    plan       TEXT NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE runs (
    n           INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id      TEXT NOT NULL UNIQUE,
    sweep_id    TEXT REFERENCES sweeps (sweep_id),
    pack_id     TEXT,
    position    INTEGER NOT NULL,
    spec        TEXT NOT NULL,
    version     TEXT NOT NULL,
    status      TEXT NOT NULL,
    stop        TEXT CHECK (stop IN ('keep', 'cancel')),
    attempt     INTEGER NOT NULL DEFAULT 0,
    phase       TEXT,
    step        INTEGER NOT NULL DEFAULT 0,
    first_step  INTEGER NOT NULL DEFAULT 0,
    samples     INTEGER NOT NULL DEFAULT 0,
    elapsed_s   REAL,
    last_eval   TEXT,
    num_params  INTEGER,
    peak_bytes  INTEGER,
    metrics     TEXT NOT NULL DEFAULT '{}',
    error       TEXT,
    created_at  REAL NOT NULL,
    started_at  REAL,
    heard_at    REAL,
    finished_at REAL,
    worked_s    REAL
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


class StoreBusy(CdkaError):
    """Another program held the database for longer than ``BUSY_S``; trying again later may work."""


class StoreFull(CdkaError):
    """The database could not grow: the disk is full, or a quota is reached. Nothing was written."""


class StoreUnreadable(CdkaError):
    """The file is damaged, not ours, or written by a newer version. It is left as it is."""


def _told(error: sqlite3.Error, path: Path) -> CdkaError | None:
    """The one-line refusal for a trouble with the file, or None where the error is a defect of ours."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _LOCKED:
        return StoreBusy(
            f"the run store is locked: another program has held {path} for over {BUSY_S:g} s. "
            "Close it and try again; runs in progress go on."
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StoreFull(
            f"the run store could not be written ({error}): {path}. Free some disk space and try again; "
            "what was stored before is intact."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreUnreadable(
            f"the run store is damaged ({error}): {path}. It was left untouched: restore a copy, or move it away to "
            "start anew (the adapters in the folder 'runs' beside it stay)."
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return CdkaError(f"the run store must be readable and writable ({error}): {path}. Set CDKA_HOME to your own.")
    return None


def _insist(attempt: Callable[[], object], deadline: float) -> None:
    """Try again while the file is locked: these statements do not wait for their lock by themselves."""
    while True:
        try:
            attempt()
            return
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) not in _LOCKED or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Database:
    """The open file, for any number of threads of one process.

    ``read()`` and ``write()`` are transactions that yield a cursor: a read sees one consistent state and never
    waits for a writer; a write is committed whole or not at all. Troubles come out as CdkaError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks = (threading.RLock(), threading.RLock())
        with self._translated():
            self._reader, self._writer = self._connect(), self._connect()
            self._prepare()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _prepare(self) -> None:
        """Create the schema in an empty file; refuse a file that is not ours or newer than we are."""
        if self._is_ready(self._reader):
            return
        deadline = time.monotonic() + BUSY_S
        _insist(lambda: self._writer.execute("BEGIN IMMEDIATE"), deadline)
        try:
            if not self._is_ready(self._writer):
                for statement in _SCHEMA.split(";"):
                    if statement.strip():
                        self._writer.execute(statement)
                self._writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        _insist(lambda: self._writer.execute("PRAGMA journal_mode = WAL"), deadline)

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """True for our schema, False for an empty file; raises StoreUnreadable for anything else."""
        if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            return False
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreUnreadable(f"not a run store of ours: {self.path}. Move it away, or set CDKA_HOME elsewhere.")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreUnreadable(
                f"the run store was written by a newer version: schema {version}, this one reads up to "
                f"{SCHEMA_VERSION}: {self.path}. Upgrade cdka-studio, or set CDKA_HOME elsewhere."
            )
        return True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            told = _told(error, self.path)
            if told is None:
                raise
            raise told from None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Cursor]:
        """A consistent view of the store."""
        with self._locks[0], self._translated():
            cursor = self._reader.cursor()
            cursor.execute("BEGIN")
            try:
                yield cursor
            finally:
                if self._reader.in_transaction:
                    cursor.execute("ROLLBACK")

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Cursor]:
        """One transaction. ``durable=False`` (events) may lose the last ones to a power cut, never to a kill."""
        with self._locks[1], self._translated():
            cursor = self._writer.cursor()
            cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def changes(self) -> int:
        """A number that differs after any other connection has written. Costs microseconds."""
        with self._locks[0], self._translated():
            return self._reader.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        for lock, connection in zip(self._locks, (self._reader, self._writer), strict=True):
            with lock:
                connection.close()
