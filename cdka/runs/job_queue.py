"""The engine's side of the store: reserve queued runs, claim them, record their events and how they ended.

An execution owns ``(run, attempt)``: whatever it writes is written only while the run is live *in that attempt*, so
a worker that was given up (declared lost, requeued, retried) can write nothing. Each call is one transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cdka.plain_json import dump
from cdka.runs import events
from cdka.runs.database import Database
from cdka.runs.events import Event
from cdka.runs.run import new_id
from cdka.runs.schema import ENGINE, UNDECIDED, marks, parse_spec
from cdka.runs.spec import RunSpec
from cdka.runs.states import FRESH_ATTEMPT, LIVE, RunState, change_state, end_attempt, set_columns

IS_CLAIMED = "status IN ('running', 'stopping')"
IN_PROCESS, SCRIPT = "in process", "script"
"""Slots of runs that train in the process that asked for them, and of those that a script of the user's reports."""
OWNED = (IN_PROCESS, SCRIPT)
"""The runs in these slots belong to a process that the engine neither started nor may end."""
IS_LIVE = f"status IN ({', '.join(repr(state.value) for state in LIVE)})"


@dataclass(frozen=True)
class Job:
    """The work of one worker process: K >= 1 runs, each in the attempt that was reserved for it."""

    job_id: str
    slot: str
    runs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class LiveJob:
    """A job that should be at work, with those of its runs that are live.

    ``identity`` is the process that claimed it (None: not claimed yet); ``cancelled`` is True when every live run
    was asked to be cancelled; it was reserved at ``started_at``, Unix seconds.
    """

    job: Job
    identity: tuple[int, str, str] | None
    cancelled: bool
    started_at: float


@dataclass
class Batch:
    """Events of one run that are to be stored together. ``first_seq`` numbers the first of them."""

    run_id: str
    attempt: int
    first_seq: int
    events: list[Event] = field(default_factory=list)


def anything_queued(database: Database) -> bool:
    """True if a run waits for its turn."""
    with database.read() as sql:
        return sql.execute("SELECT 1 FROM runs WHERE status = 'queued' LIMIT 1").fetchone() is not None


def anything_to_do(database: Database) -> bool:
    """True if a run waits, or is at work in a process of the engine, or may go on after a halving."""
    with database.read() as sql:
        row = sql.execute(
            f"SELECT 1 FROM runs LEFT JOIN attempts USING (n, attempt) WHERE runs.status = 'queued'"
            f" OR (runs.{IS_LIVE} AND coalesce(slot, '') NOT IN ({marks(OWNED)})) LIMIT 1",
            OWNED,
        ).fetchone()
    return row is not None or halving_undecided(database)


def halving_undecided(database: Database, run_ids: Sequence[str] | None = None) -> bool:
    """True where the halving of a sweep has a decision to come: runs that have stopped may go on.

    ``run_ids``: of their sweeps alone.
    """
    with database.read() as sql:
        if run_ids is None:
            row = sql.execute(f"SELECT 1 FROM sweeps WHERE {UNDECIDED} LIMIT 1").fetchone()
        else:
            row = sql.execute(
                f"SELECT 1 FROM sweeps WHERE {UNDECIDED} AND sweep_id IN"
                " (SELECT sweep_id FROM runs WHERE run_id IN (SELECT value FROM json_each(?))) LIMIT 1",
                (dump(list(run_ids)),),
            ).fetchone()
    return row is not None


def engines_queued(database: Database) -> list[str]:
    """The engines that queued runs wait for. Costs a look into an index for each, however many wait."""
    found: list[str] = []
    with database.read() as sql:
        while True:
            (name,) = sql.execute(
                f"SELECT min({ENGINE}) FROM runs WHERE status = 'queued' AND {ENGINE} > ?",
                (found[-1] if found else "",),
            ).fetchone()
            if name is None:
                return found
            found.append(name)


def reserve(database: Database, slot_for: Callable[[RunSpec], str | None], *, engine: str | None = None) -> Job | None:
    """The next job of the queue, its runs now ``starting`` in a new attempt; None where nothing can start.

    ``slot_for`` names the free slot for a spec, or None: then the next run in the queue is considered, of those for
    ``engine`` where one is named.
    """
    if not anything_queued(database):
        return None
    with database.write() as sql:
        theirs = "" if engine is None else f" AND {ENGINE} = ?"
        queue = sql.execute(
            "SELECT n, run_id, attempt, pack_id, spec, version FROM runs"
            f" WHERE status = 'queued'{theirs} ORDER BY position, n",
            () if engine is None else (engine,),
        )
        tried: dict[str, str | None] = {}
        chosen = slot = None
        damaged: list[tuple[int, str]] = []
        for row in queue:
            try:
                spec = parse_spec(row["spec"], row["version"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                damaged.append((row["n"], f"its record is damaged ({what}) and cannot be started. Ask for it anew."))
                continue
            if spec.device not in tried:
                tried[spec.device] = slot_for(spec)
            slot = tried[spec.device]
            if slot is not None:
                chosen = row
                break
        for n, reason in damaged:
            change_state(sql, n, RunState.CANCELLED, error=reason, finished_at=time.time())
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
            fresh = {**FRESH_ATTEMPT, "peak_bytes": None, "started_at": now, "heartbeat_at": now}
            change_state(sql, mate["n"], RunState.STARTING, **fresh, attempt=mate["attempt"] + 1)
            sql.execute(
                "INSERT INTO attempts (n, attempt, job_id, slot, started_at) VALUES (?, ?, ?, ?, ?)",
                (mate["n"], mate["attempt"] + 1, job.job_id, slot, now),
            )
        return job


def begin(
    database: Database, spec: RunSpec, identity: tuple[int, str, str], slot: str, *, group: str | None = None
) -> tuple[str, int]:
    """(id, attempt) of a new run that is never queued: the process ``identity`` owns it. ``claim`` sets it going.

    ``slot`` is one of ``OWNED``. ``group`` names the sweep that it joins; the newest of that name that holds such runs
    alone, else a new one.
    """
    from cdka import __version__

    assert slot in OWNED
    now, run_id = time.time(), new_id("r")
    with database.write() as sql:
        sweep_id = None if group is None else _group(sql, group, spec, now)
        (position,) = sql.execute("SELECT coalesce(max(position), 0) + 1 FROM runs").fetchone()
        sql.execute(
            "INSERT INTO runs (run_id, sweep_id, position, spec, version, status, attempt, created_at, started_at,"
            " heartbeat_at) VALUES (?, ?, ?, ?, ?, 'starting', 1, ?, ?, ?)",
            (run_id, sweep_id, position, dump(spec.to_dict()), __version__, now, now, now),
        )
        sql.execute(
            "INSERT INTO attempts (n, attempt, job_id, slot, pid, process_start, boot_id, started_at)"
            " VALUES (?, 1, ?, ?, ?, ?, ?, ?)",
            (sql.lastrowid, new_id("j"), slot, *identity, now),
        )
    return run_id, 1


def _group(sql: sqlite3.Cursor, name: str, spec: RunSpec, now: float) -> str:
    found = sql.execute(
        "SELECT sweep_id FROM sweeps WHERE name = ? AND json_extract(plan, '$.logged') ORDER BY rowid DESC",
        (name,),
    ).fetchone()
    if found is not None:
        return found["sweep_id"]
    sweep_id = new_id("s")
    plan = {"name": name, "model": spec.model, "task": spec.task, "arms": [], "logged": True}
    sql.execute(
        "INSERT INTO sweeps (sweep_id, name, plan, created_at) VALUES (?, ?, ?, ?)", (sweep_id, name, dump(plan), now)
    )
    return sweep_id


def claim(
    database: Database, run_id: str, attempt: int, identity: tuple[int, str, str], *, slot: str | None = None
) -> bool:
    """True if this process, ``(pid, process start, boot id)``, now executes the attempt; False if it came too late.

    ``slot`` is the one that it was given, where that was not known before.
    """
    with database.write() as sql:
        row = sql.execute(
            "SELECT n FROM runs WHERE run_id = ? AND attempt = ? AND status = 'starting'", (run_id, attempt)
        ).fetchone()
        if row is None:
            return False
        change_state(sql, row["n"], RunState.RUNNING, phase="loading", heartbeat_at=time.time())
        sql.execute(
            "UPDATE attempts SET pid = ?, process_start = ?, boot_id = ?, slot = coalesce(?, slot)"
            " WHERE n = ? AND attempt = ?",
            (*identity, slot, row["n"], attempt),
        )
        return True


def next_seq(database: Database, run_id: str, attempt: int) -> int:
    """The number that the next event of an attempt gets."""
    with database.read() as sql:
        row = sql.execute(
            "SELECT coalesce(max(e.seq) + 1, 0) FROM events e JOIN runs r ON r.n = e.n"
            " WHERE r.run_id = ? AND e.attempt = ?",
            (run_id, attempt),
        ).fetchone()
    return row[0]


def stop_requests(database: Database, runs: Iterable[tuple[str, int]]) -> list[str | None]:
    """For each (run, attempt): "keep", "cancel" or None; "cancel" where the attempt is no longer live."""
    with database.read() as sql:
        rows = [
            sql.execute(
                f"SELECT stop_requested FROM runs WHERE run_id = ? AND attempt = ? AND {IS_LIVE}", (run_id, attempt)
            ).fetchone()
            for run_id, attempt in runs
        ]
    return ["cancel" if row is None else row["stop_requested"] for row in rows]


def all_stop_requests(database: Database) -> dict[tuple[str, int], str]:
    """The stop asked of every run that has one and has not ended, by (run, attempt): "keep" or "cancel"."""
    with database.read() as sql:
        rows = sql.execute(
            "SELECT run_id, attempt, stop_requested FROM runs WHERE status = 'stopping' AND stop_requested IS NOT NULL"
        ).fetchall()
    return {(row["run_id"], row["attempt"]): row["stop_requested"] for row in rows}


def record_events(database: Database, batches: Sequence[Batch], worked_s: float = 0.0) -> set[str]:
    """Store what happened, and the changes of state it means; returns the runs that refused (not live, or not claimed).

    ``Final`` makes a run done or stopped, ``Failed`` and ``Cancelled`` end it so. All batches are one transaction;
    one that ends a run is also safe against a power cut. ``worked_s`` is the attempt's time so far.
    """
    ending = any(isinstance(event, events.LAST) for batch in batches for event in batch.events)
    refused = set()
    with database.write(durable=ending) as sql:
        for batch in batches:
            row = sql.execute(
                f"SELECT n FROM runs WHERE run_id = ? AND attempt = ? AND {IS_CLAIMED}", (batch.run_id, batch.attempt)
            ).fetchone()
            if row is None:
                refused.add(batch.run_id)
            else:
                _store_batch(sql, row["n"], batch, worked_s)
    return refused


def _store_batch(sql: sqlite3.Cursor, n: int, batch: Batch, worked_s: float) -> None:
    now = time.time()
    changes: dict[str, Any] = {"heartbeat_at": now}
    rows, state = [], None
    for seq, event in enumerate(batch.events, start=batch.first_seq):
        match event:
            case events.Phase():
                changes["phase"] = event.phase
            case events.Progress():  # the last one alone is kept, beside the run
                changes |= {"progress": dump(event.to_dict()), "phase": event.phase}
                continue
            case events.Start():
                changes["num_params"] = event.num_params
                sql.execute(
                    "UPDATE attempts SET versions = ? WHERE n = ? AND attempt = ?",
                    (dump(event.versions), n, batch.attempt),
                )
            case events.Resumed():
                changes |= {"step": event.step, "first_step": event.step}
            case events.Step():
                made = {"step": event.step, "samples": event.samples, "elapsed_s": event.elapsed_s}
                changes |= {column: value for column, value in made.items() if value is not None}
            case events.Evaluated():
                changes["last_eval"] = dump(event.to_dict())
            case events.Memory():
                changes["peak_bytes"] = event.peak_bytes
            case events.Final():
                if event.predictions is not None:
                    sql.execute(
                        "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?)",
                        (n, batch.attempt, dump(event.predictions)),
                    )
                    event = replace(event, predictions=None)
                changes["metrics"] = dump(event.metrics)
                state = RunState.STOPPED if event.stopped else RunState.DONE
            case events.Failed():
                changes["error"] = event.cause
                state = RunState.FAILED
            case events.Cancelled():
                state = RunState.CANCELLED
        rows.append((n, batch.attempt, seq, event.kind, now, dump(event.to_dict())))
    sql.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
    if state is None:
        set_columns(sql, n, **changes)
        return
    end_attempt(sql, n, batch.attempt, now, state, changes.get("error"))
    change_state(
        sql, n, state, **{**changes, "finished_at": now, "worked_s": worked_s, "phase": None, "stop_requested": None}
    )


def conclude(database: Database, runs: Iterable[tuple[str, int]], status: str, error: str) -> list[str]:
    """End the attempts whose process is gone without a report: ``failed`` or ``lost``; returns the ids ended.

    A run that was asked to be cancelled is ``cancelled``: that is what killed it.
    """
    assert status in (RunState.FAILED, RunState.LOST)
    ended, now = [], time.time()
    with database.write() as sql:
        for run_id, attempt in runs:
            row = sql.execute(
                f"SELECT n, stop_requested FROM runs WHERE run_id = ? AND attempt = ? AND {IS_LIVE}", (run_id, attempt)
            ).fetchone()
            if row is None:
                continue
            outcome, reason = (
                (RunState.CANCELLED, None) if row["stop_requested"] == "cancel" else (RunState(status), error)
            )
            change_state(sql, row["n"], outcome, error=reason, finished_at=now, phase=None, stop_requested=None)
            end_attempt(sql, row["n"], attempt, now, outcome, reason)
            ended.append(run_id)
    return ended


def requeue(database: Database, runs: Iterable[tuple[str, int]]) -> None:
    """Put reserved runs that no worker has claimed back into the queue, at their old place."""
    now = time.time()
    with database.write() as sql:
        for run_id, attempt in runs:
            row = sql.execute(
                "SELECT n FROM runs WHERE run_id = ? AND attempt = ? AND status = 'starting'", (run_id, attempt)
            ).fetchone()
            if row is not None:
                change_state(sql, row["n"], RunState.QUEUED, started_at=None)
                end_attempt(sql, row["n"], attempt, now, RunState.LOST, "no worker took it up; queued again")


def live_jobs(database: Database) -> list[LiveJob]:
    """The jobs with live runs, in the order of the queue."""
    with database.read() as sql:
        rows = sql.execute(
            "SELECT r.run_id, r.attempt, r.stop_requested, a.job_id, a.slot, a.pid, a.process_start, a.boot_id,"
            " a.started_at FROM runs r JOIN attempts a ON a.n = r.n AND a.attempt = r.attempt"
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
        cancelled = all(row["stop_requested"] == "cancel" for row in members)
        found.append(LiveJob(job, identity, cancelled, members[0]["started_at"]))
    return found
