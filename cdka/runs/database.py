"""The SQLite file under the store: its schema, its transactions, and its troubles in one line."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from cdka.errors import CdkaError
from cdka.paths import keep_private
from cdka.runs.migrations import MIGRATIONS, drop_triggers, has_triggers
from cdka.runs.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

FILE_NAME = "runs.sqlite3"
BUSY_S = 10.0
"""Time that a transaction waits for another program's before it gives up."""

_SCHEMA_GONE = ("no such column", "no such table", "malformed", "unsupported file format")
"""The beginnings of SQLite's messages about a file whose tables are not those that it was made with."""
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StoreBusy(CdkaError):
    """Another program held the database for longer than ``BUSY_S``; trying again later may work."""


class StoreFull(CdkaError):
    """The database could not grow: the disk is full, or a quota is reached. Nothing was written."""


class StoreUnreadable(CdkaError):
    """The file is damaged, not ours, or written by a newer version. It is left as it is."""


def _refusal_of(error: sqlite3.Error, path: Path) -> CdkaError | None:
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
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith(_SCHEMA_GONE):
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


def _make_private_file(path: Path) -> None:
    """Let only this user read the file; SQLite gives its companions the same rights.

    A file that is there is not opened: to close it would drop the locks that this process holds on it, by which other
    processes know that the write-ahead log is in use.
    """
    with suppress(OSError):  # SQLite itself says what is wrong with it
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    keep_private(path)


def _text(raw: bytes) -> str:
    """The text of a cell; bytes that are none, in a damaged row, become marks instead of an error for all rows."""
    return raw.decode("utf-8", "replace")


class Database:
    """The open file, for any number of threads of one process.

    ``read()`` and ``write()`` are transactions that yield a cursor: a read sees one consistent state and never
    waits for a writer; a write is committed whole or not at all. Troubles come out as CdkaError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks = (threading.RLock(), threading.RLock())
        with self._translated():
            _make_private_file(path)
            self._reader, self._writer = self._connect(), self._connect()
            self._prepare()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.row_factory, connection.text_factory = sqlite3.Row, _text
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _prepare(self) -> None:
        """Create the tables in an empty file, migrate those of an older version; refuse what is not ours or newer."""
        if self._version(self._reader) == SCHEMA_VERSION and not has_triggers(self._reader):
            return
        deadline = time.monotonic() + BUSY_S
        _insist(lambda: self._writer.execute("BEGIN IMMEDIATE"), deadline)
        try:
            self._upgrade(self._writer.cursor())
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        _insist(lambda: self._writer.execute("PRAGMA journal_mode = WAL"), deadline)

    def _upgrade(self, sql: sqlite3.Cursor) -> None:
        version = self._version(self._writer)
        if version == SCHEMA_VERSION:
            drop_triggers(sql)
            return
        if version is None:
            for statement in SCHEMA.split(";"):
                sql.execute(statement)
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            self._back_up(version)
            for step in range(version, SCHEMA_VERSION):
                MIGRATIONS[step](sql)
        sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _back_up(self, version: int) -> None:
        """Copy the file as it is beside itself, whole or not at all: ``runs-schema1.sqlite3``."""
        target = self.path.with_name(f"{self.path.stem}-schema{version}{self.path.suffix}")
        part = target.with_name(target.name + ".part")
        try:
            part.unlink(missing_ok=True)
            with closing(sqlite3.connect(part)) as copy:
                self._reader.backup(copy)
            keep_private(part)
            part.replace(target)
        except OSError as error:
            raise StoreFull(
                f"the run store is copied before it is upgraded, and that failed ({error.strerror}): {target}. Free "
                "some disk space and try again; nothing was changed."
            ) from None
        finally:
            part.unlink(missing_ok=True)

    def _version(self, connection: sqlite3.Connection) -> int | None:
        """The version of our tables, None for an empty file; raises StoreUnreadable for anything else."""
        if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            return None
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreUnreadable(f"not a run store of ours: {self.path}. Move it away, or set CDKA_HOME elsewhere.")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreUnreadable(
                f"the run store was written by a newer version: schema {version}, this one reads up to "
                f"{SCHEMA_VERSION}: {self.path}. Upgrade cdka-studio, or set CDKA_HOME elsewhere."
            )
        if version < 1:
            raise StoreUnreadable(
                f"the run store has no version: expected schema 1 to {SCHEMA_VERSION}, got {version}: {self.path}. It "
                "was left untouched: restore a copy, or move it away to start anew."
            )
        return version

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            refusal = _refusal_of(error, self.path)
            if refusal is None:
                raise
            raise refusal from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StoreUnreadable(
                f"a record in the run store is damaged ({error}): {self.path}. Restore a copy; other runs are intact."
            ) from None

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
