"""What users ask of runs that exist: stop, retry, go first. Each one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdka.errors import CdkaError
from cdka.runs.ids import run_directory
from cdka.runs.record import CANCELLED, RETRIABLE, RUNNING, STARTING, STOPPING
from cdka.runs.transitions import end_attempt

if TYPE_CHECKING:
    from cdka.runs.store import Store


def request_stop(store: Store, run_id: str, keep: bool) -> str:
    """See ``Store.request_stop``."""
    with store.database.write() as sql:
        row = sql.execute("SELECT n, status, attempt, stop FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise CdkaError(f"there is no run {run_id!r} any more.")
        if row["status"] in ("queued", STARTING):
            now = time.time()
            sql.execute(
                "UPDATE runs SET status = 'cancelled', finished_at = ?, phase = NULL WHERE n = ?", (now, row["n"])
            )
            if row["status"] == STARTING:
                end_attempt(sql, row["n"], row["attempt"], now, CANCELLED, None)
            return CANCELLED
        if row["status"] not in (RUNNING, STOPPING):
            return row["status"]
        if not keep or row["stop"] is None:
            sql.execute(
                "UPDATE runs SET status = 'stopping', stop = ? WHERE n = ?", ("keep" if keep else "cancel", row["n"])
            )
        return STOPPING


def retry(store: Store, run_ids: Sequence[str]) -> None:
    """See ``Store.retry``. Runs of one pack that are retried together train together again, unless they resume from
    checkpoints, which need not stand at the same step."""
    with store.database.write() as sql:
        position = sql.execute("SELECT coalesce(max(position), 0) FROM runs").fetchone()[0]
        for i, run_id in enumerate(run_ids, start=1):
            row = sql.execute("SELECT status, pack_id FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None or row["status"] not in RETRIABLE:
                state = "gone" if row is None else row["status"]
                raise CdkaError(
                    f"only a run that was stopped, cancelled, failed or lost can be retried: {run_id} is {state}."
                )
            pack_id = None if (run_directory(store.home, run_id) / "checkpoint").exists() else row["pack_id"]
            sql.execute(
                "UPDATE runs SET status = 'queued', pack_id = ?, position = ?, stop = NULL, phase = NULL, step = 0,"
                " first_step = 0, samples = 0, metrics = '{}', elapsed_s = NULL, last_eval = NULL, error = NULL,"
                " started_at = NULL, finished_at = NULL, worked_s = NULL WHERE run_id = ?",
                (pack_id, position + i, run_id),
            )


def prioritise(store: Store, run_ids: Sequence[str]) -> None:
    """See ``Store.prioritise``."""
    with store.database.write() as sql:
        first = sql.execute("SELECT coalesce(min(position), 0) FROM runs").fetchone()[0] - len(run_ids)
        sql.executemany(
            "UPDATE runs SET position = ? WHERE run_id = ? AND status = 'queued'",
            [(first + i, run_id) for i, run_id in enumerate(run_ids)],
        )
