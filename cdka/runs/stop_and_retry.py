"""Stop, retry and reorder runs on request. Each call is one transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cdka.errors import CdkaError
from cdka.runs.database import Database
from cdka.runs.job_queue import SCRIPT
from cdka.runs.run import run_directory
from cdka.runs.states import FRESH_ATTEMPT, RunState, change_state, end_attempt


def request_stop(database: Database, run_id: str, keep: bool) -> RunState:
    """The state of the run after the request; see ``Store.request_stop``."""
    states = request_stops(database, [run_id], keep)
    if run_id not in states:
        raise CdkaError(f"there is no run {run_id!r} any more.")
    return states[run_id]


def request_stops(database: Database, run_ids: Iterable[str], keep: bool) -> dict[str, RunState]:
    """The state of each run after the request, all in one transaction; see ``Store.request_stops``."""
    with database.write() as sql:
        rows = sql.execute(
            "SELECT n, run_id, status, attempt, stop_requested FROM runs"
            " WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY n",
            (json.dumps(list(run_ids)),),
        ).fetchall()
        return {row["run_id"]: _stop(sql, row, keep) for row in rows}


def _stop(sql: sqlite3.Cursor, row: sqlite3.Row, keep: bool) -> RunState:
    status = RunState(row["status"])
    if status in (RunState.QUEUED, RunState.STARTING):
        now = time.time()
        change_state(sql, row["n"], RunState.CANCELLED, finished_at=now, phase=None)
        if status == RunState.STARTING:
            end_attempt(sql, row["n"], row["attempt"], now, RunState.CANCELLED, None)
        return RunState.CANCELLED
    if status.is_finished():
        return status
    if not keep or row["stop_requested"] is None:
        change_state(sql, row["n"], RunState.STOPPING, stop_requested="keep" if keep else "cancel")
    return RunState.STOPPING


def retry(database: Database, home: Path, run_ids: Sequence[str]) -> None:
    """Queue finished runs again; see ``Store.retry``.

    Runs of one pack that are retried together train together again, unless they resume from checkpoints, which need
    not stand at the same step.
    """
    with database.write() as sql:
        position = sql.execute("SELECT coalesce(max(position), 0) FROM runs").fetchone()[0]
        for i, run_id in enumerate(run_ids, start=1):
            row = sql.execute("SELECT n, status, pack_id FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None or not RunState(row["status"]).can_retry():
                state = "gone" if row is None else row["status"]
                raise CdkaError(
                    f"only a run that was stopped, cancelled, failed or lost can be retried: {run_id} is {state}."
                )
            slot = sql.execute("SELECT slot FROM attempts WHERE n = ? ORDER BY attempt DESC", (row["n"],)).fetchone()
            if slot is not None and slot["slot"] == SCRIPT:
                raise CdkaError(f"a run that a script of yours trained is repeated by that script: got {run_id}.")
            pack_id = None if (run_directory(home, run_id) / "checkpoint").exists() else row["pack_id"]
            columns = {**FRESH_ATTEMPT, "pack_id": pack_id, "position": position + i}
            change_state(sql, row["n"], RunState.QUEUED, **columns)


def prioritise(database: Database, run_ids: Sequence[str]) -> None:
    """Move queued runs to the front; see ``Store.prioritise``."""
    with database.write() as sql:
        first = sql.execute("SELECT coalesce(min(position), 0) FROM runs").fetchone()[0] - len(run_ids)
        sql.executemany(
            "UPDATE runs SET position = ? WHERE run_id = ? AND status = 'queued'",
            [(first + i, run_id) for i, run_id in enumerate(run_ids)],
        )
