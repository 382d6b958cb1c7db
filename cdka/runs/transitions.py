"""Every change of a run's state, each one transaction with its guard. The engine's side of the store.

    queued -> starting -> running -> done | stopped | failed | cancelled | lost
                              \\-> stopping -/

An execution owns ``(run, attempt)``: whatever it writes is written only while the run is live *in that attempt*, so
a worker that was given up (declared lost, requeued, retried) can write nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdka.runs.ids import new_id
from cdka.runs.record import CANCELLED, DONE, FAILED, LOST, STOPPED
from cdka.runs.rows import dump, parse_spec
from cdka.runs.spec import RunSpec

if TYPE_CHECKING:
    from cdka.runs.store import Store

IS_LIVE = "status IN ('starting', 'running', 'stopping')"


@dataclass(frozen=True)
class Job:
    """What one worker process executes: K >= 1 runs, each in the attempt that was reserved for it."""

    job_id: str
    slot: str
    runs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class LiveJob:
    """A job that should be at work, with those of its runs that are live.

    ``identity`` is the process that claimed it (None: not claimed yet); ``cancelled`` is True when every live run
    was asked to be cancelled.
    """

    job: Job
    identity: tuple[int, str, str] | None
    cancelled: bool


@dataclass
class Batch:
    """Events of one run that are to be stored together. ``first_seq`` numbers the first of them."""

    run_id: str
    attempt: int
    first_seq: int
    events: list[dict[str, Any]] = field(default_factory=list)


def anything_queued(store: Store) -> bool:
    """True if a run waits for its turn."""
    with store.database.read() as sql:
        return sql.execute("SELECT 1 FROM runs WHERE status = 'queued' LIMIT 1").fetchone() is not None


def anything_to_do(store: Store) -> bool:
    """True if a run waits or is at work."""
    with store.database.read() as sql:
        return sql.execute(f"SELECT 1 FROM runs WHERE status = 'queued' OR {IS_LIVE} LIMIT 1").fetchone() is not None


def reserve(store: Store, slot_for: Callable[[RunSpec], str | None]) -> Job | None:
    """The next job of the queue, its runs now ``starting`` in a new attempt; None where nothing can start.

    ``slot_for`` names the free slot for a spec, or None: then the next run in the queue is considered.
    """
    if not anything_queued(store):
        return None
    with store.database.write() as sql:
        queue = sql.execute(
            "SELECT n, run_id, attempt, pack_id, spec FROM runs WHERE status = 'queued' ORDER BY position, n"
        )
        tried: dict[str, str | None] = {}
        chosen = slot = None
        for row in queue:
            spec = parse_spec(row["spec"])
            if spec.device not in tried:
                tried[spec.device] = slot_for(spec)
            slot = tried[spec.device]
            if slot is not None:
                chosen = row
                break
        if chosen is None:
            return None
        mates = [chosen]
        if chosen["pack_id"] is not None:
            mates = sql.execute(
                "SELECT n, run_id, attempt FROM runs WHERE status = 'queued' AND pack_id = ? AND attempt = ?"
                " ORDER BY position, n",
                (chosen["pack_id"], chosen["attempt"]),
            ).fetchall()
        job = Job(new_id("j"), slot, tuple((mate["run_id"], mate["attempt"] + 1) for mate in mates))
        now = time.time()
        for mate in mates:
            sql.execute(
                "UPDATE runs SET status = 'starting', attempt = attempt + 1, stop = NULL, phase = NULL, step = 0,"
                " first_step = 0, samples = 0, elapsed_s = NULL, last_eval = NULL, peak_bytes = NULL, metrics = '{}',"
                " error = NULL, started_at = ?, heard_at = ?, finished_at = NULL, worked_s = NULL WHERE n = ?",
                (now, now, mate["n"]),
            )
            sql.execute(
                "INSERT INTO attempts (n, attempt, job_id, slot, started_at) VALUES (?, ?, ?, ?, ?)",
                (mate["n"], mate["attempt"] + 1, job.job_id, slot, now),
            )
        return job


def claim(store: Store, run_id: str, attempt: int, identity: tuple[int, str, str]) -> bool:
    """True if this process, ``(pid, process start, boot id)``, now executes the attempt; False if it came too late."""
    with store.database.write() as sql:
        sql.execute(
            "UPDATE runs SET status = 'running', phase = 'loading', heard_at = ?"
            " WHERE run_id = ? AND attempt = ? AND status = 'starting'",
            (time.time(), run_id, attempt),
        )
        if not sql.rowcount:
            return False
        sql.execute(
            "UPDATE attempts SET pid = ?, process_start = ?, boot_id = ?"
            " WHERE attempt = ? AND n = (SELECT n FROM runs WHERE run_id = ?)",
            (*identity, attempt, run_id),
        )
        return True


def stops(store: Store, runs: Iterable[tuple[str, int]]) -> list[str | None]:
    """For each (run, attempt): "keep", "cancel" or None; "cancel" where the attempt is no longer live."""
    with store.database.read() as sql:
        rows = [
            sql.execute(
                f"SELECT stop FROM runs WHERE run_id = ? AND attempt = ? AND {IS_LIVE}", (run_id, attempt)
            ).fetchone()
            for run_id, attempt in runs
        ]
    return ["cancel" if row is None else row["stop"] for row in rows]


def record_events(store: Store, batches: Sequence[Batch], worked_s: float = 0.0) -> set[str]:
    """Store what happened, and the changes of state it means; returns the runs that refused (no longer live).

    A "final" event makes a run done or stopped, "failed" and "cancelled" what they say. All batches are one
    transaction; one that ends a run is also safe against a power cut. ``worked_s`` is the attempt's time so far.
    """
    ending = any(event["kind"] in ("final", "failed", "cancelled") for batch in batches for event in batch.events)
    refused = set()
    with store.database.write(durable=ending) as sql:
        for batch in batches:
            row = sql.execute(
                f"SELECT n FROM runs WHERE run_id = ? AND attempt = ? AND {IS_LIVE}", (batch.run_id, batch.attempt)
            ).fetchone()
            if row is None:
                refused.add(batch.run_id)
            else:
                _store_batch(sql, row["n"], batch, worked_s)
    return refused


def _store_batch(sql: sqlite3.Cursor, n: int, batch: Batch, worked_s: float) -> None:
    now = time.time()
    changes: dict[str, Any] = {"heard_at": now}
    rows = []
    for seq, event in enumerate(batch.events, start=batch.first_seq):
        kind = event["kind"]
        if kind == "phase":
            changes["phase"] = event["phase"]
        elif kind == "start":
            changes["num_params"] = event.get("num_params")
            sql.execute(
                "UPDATE attempts SET versions = ? WHERE n = ? AND attempt = ?",
                (dump(event.get("versions") or {}), n, batch.attempt),
            )
        elif kind == "resumed":
            changes |= {"step": event["step"], "first_step": event["step"]}
        elif kind == "step":
            told = {key: event.get(key) for key in ("step", "samples", "elapsed_s")}
            changes |= {key: value for key, value in told.items() if value is not None}
        elif kind == "eval":
            changes["last_eval"] = dump(event)
        elif kind == "memory":
            changes["peak_bytes"] = event.get("peak_bytes")
        elif kind == "final":
            event = dict(event)
            predictions = event.pop("predictions", None)
            if predictions is not None:
                sql.execute(
                    "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?)", (n, batch.attempt, dump(predictions))
                )
            changes["metrics"] = dump(event.get("metrics") or {})
            changes |= {"status": STOPPED if event.get("stopped") else DONE}
        elif kind == "failed":
            changes |= {"status": FAILED, "error": event.get("cause")}
        elif kind == "cancelled":
            changes |= {"status": CANCELLED}
        rows.append((n, batch.attempt, seq, kind, now, dump(event)))
    sql.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
    if "status" in changes:
        end_attempt(sql, n, batch.attempt, now, changes["status"], changes.get("error"))
        changes |= {"finished_at": now, "worked_s": worked_s, "phase": None, "stop": None}
    columns = ", ".join(f"{column} = ?" for column in changes)
    sql.execute(f"UPDATE runs SET {columns} WHERE n = ?", (*changes.values(), n))


def end_attempt(sql: sqlite3.Cursor, n: int, attempt: int, now: float, status: str, error: str | None) -> None:
    """Note how one attempt ended, as part of a transaction."""
    sql.execute(
        "UPDATE attempts SET finished_at = ?, status = ?, error = ? WHERE n = ? AND attempt = ?",
        (now, status, error, n, attempt),
    )


def conclude(store: Store, runs: Iterable[tuple[str, int]], status: str, error: str) -> list[str]:
    """End the attempts whose process is gone without a last word: ``failed`` or ``lost``; returns the ids ended.

    A run that was asked to be cancelled is ``cancelled``: that is what killed it.
    """
    assert status in (FAILED, LOST)
    ended, now = [], time.time()
    with store.database.write() as sql:
        for run_id, attempt in runs:
            row = sql.execute(
                f"SELECT n, stop FROM runs WHERE run_id = ? AND attempt = ? AND {IS_LIVE}", (run_id, attempt)
            ).fetchone()
            if row is None:
                continue
            outcome, reason = (CANCELLED, None) if row["stop"] == "cancel" else (status, error)
            sql.execute(
                "UPDATE runs SET status = ?, error = ?, finished_at = ?, phase = NULL, stop = NULL WHERE n = ?",
                (outcome, reason, now, row["n"]),
            )
            end_attempt(sql, row["n"], attempt, now, outcome, reason)
            ended.append(run_id)
    return ended


def requeue(store: Store, runs: Iterable[tuple[str, int]]) -> None:
    """Put reserved runs that no worker has claimed back into the queue, at their old place."""
    now = time.time()
    with store.database.write() as sql:
        for run_id, attempt in runs:
            sql.execute(
                "UPDATE runs SET status = 'queued', started_at = NULL"
                " WHERE run_id = ? AND attempt = ? AND status = 'starting'",
                (run_id, attempt),
            )
            if sql.rowcount:
                n = sql.execute("SELECT n FROM runs WHERE run_id = ?", (run_id,)).fetchone()["n"]
                end_attempt(sql, n, attempt, now, LOST, "no worker took it up; queued again")


def live_jobs(store: Store) -> list[LiveJob]:
    """The jobs with live runs, in the order of the queue."""
    with store.database.read() as sql:
        rows = sql.execute(
            "SELECT r.run_id, r.attempt, r.stop, a.job_id, a.slot, a.pid, a.process_start, a.boot_id FROM runs r"
            " JOIN attempts a ON a.n = r.n AND a.attempt = r.attempt"
            " WHERE r.status IN ('starting', 'running', 'stopping') ORDER BY r.position, r.n"
        ).fetchall()
    jobs: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        jobs.setdefault(row["job_id"], []).append(row)
    found = []
    for job_id, members in jobs.items():
        job = Job(job_id, members[0]["slot"], tuple((row["run_id"], row["attempt"]) for row in members))
        claimed = next((row for row in members if row["pid"] is not None), None)
        identity = (claimed["pid"], claimed["process_start"], claimed["boot_id"]) if claimed else None
        found.append(LiveJob(job, identity, all(row["stop"] == "cancel" for row in members)))
    return found
