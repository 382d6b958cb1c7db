"""The run store: submit, read, stop, retry, remove. Only the engine writes what happens to a run (``job_queue.py``).

One SQLite file in the home of all state is the only truth (``database.py``). Free of torch.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError, unknown
from cdka.paths import LOG_TAIL_BYTES, expanded, home_dir, log_tail, make_private
from cdka.plain_json import dump
from cdka.runs import stop_and_retry
from cdka.runs.database import FILE_NAME, Database
from cdka.runs.run import Poll, Run, Sweep, check_id, new_id, run_directory
from cdka.runs.schema import events_of, marks, run_of, runs_where, sweeps_where
from cdka.runs.spec import RunSpec
from cdka.runs.states import LIVE, RunState

if TYPE_CHECKING:
    from pandas import DataFrame


class Store:
    """All runs of one home. Safe to share between threads; any number of processes may open the same home.

    Raises CdkaError where the home cannot be written, and where the file is locked, damaged, not ours or newer.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        if home is None:
            self.home = home_dir()
        else:
            self.home = expanded(home).resolve()
            try:
                make_private(self.home)
            except OSError as error:
                raise CdkaError(
                    f"the home folder must be writable: got {self.home} ({error.strerror}). Name a folder you own."
                ) from None
        self.database = Database(self.home / FILE_NAME)
        self.damaged: dict[str, str] = {}
        """The faults of rows that could not be read so far, by the id of the run or sweep."""

    # Submit -----------------------------------------------------------------------------------------------------

    def submit(
        self,
        specs: RunSpec | Sequence[RunSpec],
        *,
        sweep_id: str | None = None,
        request_id: str | None = None,
        packs: Sequence[int | None] | None = None,
    ) -> list[str]:
        """The ids of the new queued runs, in the order of ``specs``.

        The same ``request_id`` submits once: later calls return the first call's ids (a double click, a retried
        request). ``packs`` gives each spec a pack number or None; equal numbers train together in one process.
        """
        specs = [specs] if isinstance(specs, RunSpec) else list(specs)
        with self.database.write() as sql:
            answer = self._answered(sql, request_id)
            if answer is None:
                if sweep_id is not None:
                    self._sweep_row(sql, sweep_id)
                answer = {"run_ids": self._queue(sql, specs, sweep_id, packs)}
                self._answer(sql, request_id, answer)
        return answer["run_ids"]

    def create_sweep(
        self,
        name: str,
        plan: Mapping[str, Any],
        specs: Sequence[RunSpec],
        *,
        request_id: str | None = None,
        packs: Sequence[int | None] | None = None,
    ) -> str:
        """The id of the new sweep; its runs are queued in the order of ``specs``. ``request_id`` as in ``submit``."""
        if not specs:
            raise CdkaError("a sweep needs at least one run: got an empty plan.")
        with self.database.write() as sql:
            answer = self._answered(sql, request_id)
            if answer is None:
                answer = {"sweep_id": new_id("s")}
                row = (answer["sweep_id"], name, dump(dict(plan)), time.time())
                sql.execute("INSERT INTO sweeps (sweep_id, name, plan, created_at) VALUES (?, ?, ?, ?)", row)
                self._queue(sql, list(specs), answer["sweep_id"], packs)
                self._answer(sql, request_id, answer)
        return answer["sweep_id"]

    def _queue(
        self, sql: sqlite3.Cursor, specs: list[RunSpec], sweep_id: str | None, packs: Sequence[int | None] | None
    ) -> list[str]:
        from cdka import __version__

        if packs is not None and len(packs) != len(specs):
            raise CdkaError(f"packs must name one pack per run: got {len(packs)} for {len(specs)} runs.")
        for number, size in Counter(packs or ()).items():
            _check_pack(
                [spec for spec, own in zip(specs, packs or (), strict=True) if own == number and size > 1], number
            )
        now, position = time.time(), self._last_position(sql)
        pack_names = {number: new_id("p") for number in set(packs or ()) - {None}}
        run_ids = [new_id("r") for _ in specs]
        sql.executemany(
            "INSERT INTO runs (run_id, sweep_id, pack_id, position, spec, version, status, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'queued', ?)",
            [
                (run_id, sweep_id, pack_names.get(pack), position + i, dump(spec.to_dict()), __version__, now)
                for i, (run_id, spec, pack) in enumerate(
                    zip(run_ids, specs, packs or [None] * len(specs), strict=True), start=1
                )
            ],
        )
        return run_ids

    @staticmethod
    def _answered(sql: sqlite3.Cursor, request_id: str | None) -> dict[str, Any] | None:
        row = sql.execute("SELECT answer FROM requests WHERE request_id = ?", (request_id,)).fetchone()
        return json.loads(row["answer"]) if row else None

    @staticmethod
    def _answer(sql: sqlite3.Cursor, request_id: str | None, answer: dict[str, Any]) -> None:
        if request_id is not None:
            sql.execute("INSERT INTO requests VALUES (?, ?, ?)", (request_id, dump(answer), time.time()))

    @staticmethod
    def _last_position(sql: sqlite3.Cursor) -> int:
        return sql.execute("SELECT coalesce(max(position), 0) FROM runs").fetchone()[0]

    # Read ----------------------------------------------------------------------------------------------------------

    def runs(
        self,
        *,
        status: str | Iterable[str] | None = None,
        sweep_id: str | Iterable[str] | None = None,
        ids: Iterable[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        text: str | None = None,
        since: float | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Run]:
        """The runs that match, in the order of submission; every one where nothing is asked.

        ``settings`` maps names of settings to the text or number that they have. Each word of ``text`` is found in the
        id, the sweep, the state, the settings, the cause of a failure or the date, in any case; a number behind
        ``seed``, ``r1``, ``r2``, ``r``, ``rank`` or ``lora`` is that setting. ``since`` is the Unix time before
        which a run was not submitted. ``limit`` and ``offset`` cut a page out of the matches: ask ``count`` for their
        number. Rows that are damaged are left out, and ``damaged`` names them.
        """
        where, values = runs_where(status=status, sweep_id=sweep_id, ids=ids, settings=settings, text=text, since=since)
        query = f"SELECT * FROM runs{where} ORDER BY n {'DESC' if newest_first else 'ASC'} LIMIT ? OFFSET ?"
        with self.database.read() as sql:
            rows = sql.execute(query, [*values, -1 if limit is None else limit, offset]).fetchall()
        return [run for row in rows if (run := self._readable(row)) is not None]

    def count(
        self,
        *,
        status: str | Iterable[str] | None = None,
        sweep_id: str | Iterable[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        text: str | None = None,
        since: float | None = None,
    ) -> int:
        """The number of runs that ``runs`` gives for the same question, without reading them."""
        where, values = runs_where(status=status, sweep_id=sweep_id, settings=settings, text=text, since=since)
        with self.database.read() as sql:
            return sql.execute(f"SELECT count(*) FROM runs{where}", values).fetchone()[0]

    def values_of(self, setting: str) -> list[str]:
        """The texts that runs have in one setting (``model``, ``task``), the newest first."""
        query = (
            "SELECT json_extract(spec, ?) AS value FROM runs WHERE json_valid(spec) AND json_type(spec, ?) = 'text'"
            " GROUP BY value ORDER BY max(n) DESC"
        )
        with self.database.read() as sql:
            return [row["value"] for row in sql.execute(query, [f"$.{setting}"] * 2)]

    def _readable(self, row: sqlite3.Row) -> Run | None:
        """The run of a row; None, and noted in ``damaged``, where the row means nothing."""
        try:
            run = run_of(row, self.home)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.damaged[str(row["run_id"])] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            return None
        self.damaged.pop(run.run_id, None)
        return run

    def counts(self, sweep_id: str | None = None) -> dict[RunState, int]:
        """The number of runs (of a sweep, or all) in each status that occurs."""
        query = "SELECT status, count(*) FROM runs" + ("" if sweep_id is None else " WHERE sweep_id = ?")
        with self.database.read() as sql:
            rows = sql.execute(f"{query} GROUP BY status", () if sweep_id is None else (sweep_id,))
            return {RunState(status): number for status, number in rows.fetchall() if status in _STATES}

    def run(self, run_id: str) -> Run:
        """The run called ``run_id``, whole or by an unambiguous beginning. Raises CdkaError where there is none."""
        row = self._row(run_id)
        run = self._readable(row)
        if run is None:
            name = row["run_id"]
            raise CdkaError(
                f"the record of run {name} is damaged ({self.damaged[name]}). Restore a copy of the store, or remove "
                f"the run: cdka runs rm {name}"
            )
        return run

    def find_id(self, name: str) -> str:
        """The whole id of a run from its unambiguous beginning; raises CdkaError as ``run`` does."""
        return self._row(name)["run_id"]

    def _row(self, run_id: str) -> sqlite3.Row:
        """The row of the run called ``run_id``, whole or by an unambiguous beginning; raises CdkaError for none."""
        check_id(run_id)
        with self.database.read() as sql:
            query = "SELECT * FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id = ? DESC LIMIT 2"
            rows = sql.execute(query, [run_id, run_id + "~", run_id]).fetchall()
            if len(rows) == 2 and rows[0]["run_id"] != run_id:
                raise CdkaError(f"the beginning of a run's id must be unique: got {run_id!r}. Type more of it.")
            if not rows:
                known = [row[0] for row in sql.execute("SELECT run_id FROM runs ORDER BY n DESC LIMIT 200")]
                raise unknown("run", run_id, known, next_step="List them with: cdka runs list")
            return rows[0]

    def sweeps(
        self,
        *,
        ids: Iterable[str] | None = None,
        plan: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        text: str | None = None,
        finished: bool | None = None,
        since: float | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Sweep]:
        """The sweeps that match, newest first; every one where nothing is asked.

        ``plan`` maps names in their plans to what stands there, ``settings`` those of one of their runs. Each word of
        ``text`` is found in the name, model, task, tags, note, id or date, in any case; ``finished`` asks for those of
        which no run is queued or at work, or for the others; ``since`` is the Unix time before which a sweep was not
        made. ``limit`` and ``offset`` cut a page out.
        """
        where, values = sweeps_where(ids=ids, plan=plan, settings=settings, text=text, finished=finished, since=since)
        with self.database.read() as sql:
            query = f"SELECT * FROM sweeps{where} ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?"
            rows = sql.execute(query, [*values, -1 if limit is None else limit, offset]).fetchall()
            return self._sweeps(sql, rows)

    def count_sweeps(
        self,
        *,
        settings: Mapping[str, Any] | None = None,
        text: str | None = None,
        finished: bool | None = None,
        since: float | None = None,
    ) -> int:
        """The number of sweeps that ``sweeps`` gives for the same question, without reading them."""
        where, values = sweeps_where(settings=settings, text=text, finished=finished, since=since)
        with self.database.read() as sql:
            return sql.execute(f"SELECT count(*) FROM sweeps{where}", values).fetchone()[0]

    def standing(self, sweep_ids: Iterable[str]) -> list[tuple[str, RunState, int, int]]:
        """(run id, state, attempt, step) of every run of these sweeps, without reading more of them.

        It changes with whatever could change a number or a curve.
        """
        query = (
            "SELECT run_id, status, attempt, step FROM runs WHERE sweep_id IN (SELECT value FROM json_each(?))"
            " ORDER BY n"
        )
        with self.database.read() as sql:
            rows = sql.execute(query, (json.dumps(list(sweep_ids)),)).fetchall()
        return [(row[0], RunState(row[1]), row[2], row[3]) for row in rows if row[1] in _STATES]

    def sweep(self, sweep_id: str) -> Sweep:
        """The sweep called ``sweep_id``. Raises CdkaError where there is none."""
        with self.database.read() as sql:
            return self._sweeps(sql, [self._sweep_row(sql, sweep_id)])[0]

    @staticmethod
    def _sweep_row(sql: sqlite3.Cursor, sweep_id: str) -> sqlite3.Row:
        check_id(sweep_id, "sweep")
        row = sql.execute("SELECT * FROM sweeps WHERE sweep_id = ?", (sweep_id,)).fetchone()
        if row is None:
            known = [known[0] for known in sql.execute("SELECT sweep_id FROM sweeps ORDER BY rowid DESC LIMIT 200")]
            raise unknown("sweep", sweep_id, known)
        return row

    def _sweeps(self, sql: sqlite3.Cursor, rows: Sequence[sqlite3.Row]) -> list[Sweep]:
        """The sweeps of these rows; a damaged plan is an empty one, and ``damaged`` names the sweep."""
        wanted = json.dumps([row["sweep_id"] for row in rows])
        tally: dict[str, dict[RunState, int]] = {}
        for sweep_id, status, number in sql.execute(
            "SELECT sweep_id, status, count(*) FROM runs WHERE sweep_id IN (SELECT value FROM json_each(?))"
            " GROUP BY sweep_id, status",
            (wanted,),
        ):
            if status in _STATES:
                tally.setdefault(sweep_id, {})[RunState(status)] = number
        sweeps = []
        for row in rows:
            plan: Any = None
            with suppress(ValueError, TypeError):
                plan = json.loads(row["plan"])
            if not isinstance(plan, dict):
                self.damaged[row["sweep_id"]] = "its plan is no JSON object"
                plan = {}
            sweep_id = row["sweep_id"]
            sweeps.append(Sweep(sweep_id, row["name"], plan, row["created_at"], tally.get(sweep_id, {})))
        return sweeps

    def events(
        self, run_id: str, after: int = -1, attempt: int | None = None, kinds: Iterable[str] | None = None
    ) -> list[dict[str, Any]]:
        """The events of one attempt (the last by default) with ``seq > after``, each with its ``seq`` and ``at``."""
        kinds = None if kinds is None else list(kinds)
        query = (
            "SELECT e.seq, e.at, e.body FROM runs r JOIN events e ON e.n = r.n"
            " WHERE r.run_id = ? AND e.attempt = coalesce(?, r.attempt) AND e.seq > ?"
        )
        if kinds is not None:
            query += f" AND e.kind IN ({marks(kinds)})"
        with self.database.read() as sql:
            rows = sql.execute(query + " ORDER BY e.seq", [run_id, attempt, after, *(kinds or ())])
            return events_of(map(tuple, rows.fetchall()))

    def poll(self, cursors: Mapping[str, tuple[int, int]]) -> Poll:
        """The runs named by ``cursors`` as they are now, with only the events after each cursor.

        Start a run with the cursor ``(0, -1)`` and hand in the returned cursors next time. One read transaction:
        states and events belong together.
        """
        runs: dict[str, Run] = {}
        events: dict[str, list[dict[str, Any]]] = {}
        ahead: dict[str, tuple[int, int]] = {}
        with self.database.read() as sql:
            for run_id, (attempt, seq) in cursors.items():
                row = sql.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
                if row is None:
                    continue
                after = seq if attempt == row["attempt"] else -1
                fresh = sql.execute(
                    "SELECT seq, at, body FROM events WHERE n = ? AND attempt = ? AND seq > ? ORDER BY seq",
                    (row["n"], row["attempt"], after),
                )
                runs[run_id] = run_of(row, self.home)
                events[run_id] = events_of(map(tuple, fresh.fetchall()))
                ahead[run_id] = (row["attempt"], events[run_id][-1]["seq"] if events[run_id] else after)
        return Poll(runs, events, ahead)

    def attempts(self, run_id: str) -> list[dict[str, Any]]:
        """Every execution of a run, oldest first: attempt, job_id, slot, pid, times, status, error, versions."""
        with self.database.read() as sql:
            rows = sql.execute(
                "SELECT a.* FROM attempts a JOIN runs r ON r.n = a.n WHERE r.run_id = ? ORDER BY a.attempt", (run_id,)
            ).fetchall()
        found = [{key: row[key] for key in row.keys() if key != "n"} for row in rows]  # noqa: SIM118 (sqlite3.Row)
        for attempt in found:
            attempt["versions"] = json.loads(attempt["versions"]) if attempt["versions"] else {}
        return found

    def places(self, run_ids: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """(slot, boot id of the machine or id of the node) of the last attempt of each run that has had one."""
        with self.database.read() as sql:
            rows = sql.execute(
                "SELECT r.run_id, a.slot, a.boot_id FROM runs r JOIN attempts a ON a.n = r.n AND a.attempt = r.attempt"
                " WHERE r.run_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(run_ids)),),
            ).fetchall()
        return {row["run_id"]: (row["slot"], row["boot_id"]) for row in rows}

    def log(self, run_id: str, attempt: int | None = None, *, most_bytes: int = LOG_TAIL_BYTES) -> str:
        """The end of what one attempt (the last by default) printed, at most ``most_bytes``; empty if nothing."""
        run = self.run(run_id)
        path = run.log_path if attempt is None else run.directory / f"attempt-{int(attempt)}.log"
        return log_tail(path, most_bytes)

    def frame(self, run_ids: Iterable[str] | None = None, sweep_id: str | None = None) -> DataFrame:
        """One row per run: what was asked, its state, and every metric as a column (see ``frames.frame``)."""
        from cdka.runs import frames

        return frames.frame(self.runs(ids=run_ids, sweep_id=sweep_id))

    def curves(self, run_ids: Iterable[str]) -> DataFrame:
        """The training and evaluation points of the last attempt of each run (see ``frames.curves``)."""
        from cdka.runs import frames

        return frames.curves(self.database, run_ids)

    def predictions(self, run_id: str) -> DataFrame:
        """The test predictions of a kept run: example, label, predicted (missing where unparsed)."""
        from cdka.runs import frames

        return frames.predictions(self.database, run_id)

    # Control and remove -------------------------------------------------------------------------------------------

    def request_stop(self, run_id: str, keep: bool) -> RunState:
        """The state after asking a run to stop: with ``keep`` it evaluates and saves, else it is cancelled.

        A run that no worker has taken up yet is cancelled at once (there is nothing to keep). A cancel overrides
        an earlier stop-and-keep, never the other way round. A finished run is left as it is.
        """
        return stop_and_retry.request_stop(self.database, self.find_id(run_id), keep)

    def request_stops(self, run_ids: Iterable[str], keep: bool) -> dict[str, RunState]:
        """The state of each run after asking it to stop, as ``request_stop`` does, in one transaction.

        Runs that are not there (any more) are left out.
        """
        return stop_and_retry.request_stops(self.database, run_ids, keep)

    def retry(self, run_ids: str | Iterable[str]) -> None:
        """Queue finished runs again, each as a new attempt with a fresh stream of events, at the end of the queue.

        A run whose checkpoints allow it resumes from the last one. Raises CdkaError, and retries none, where one
        is not finished or is done.
        """
        wanted = [run_ids] if isinstance(run_ids, str) else list(run_ids)
        stop_and_retry.retry(self.database, self.home, [self.find_id(run_id) for run_id in wanted])

    def prioritise(self, run_ids: str | Iterable[str]) -> None:
        """Move queued runs to the front of the queue, keeping their order among themselves."""
        stop_and_retry.prioritise(self.database, [run_ids] if isinstance(run_ids, str) else list(run_ids))

    def remove(self, run_id: str) -> None:
        """Forget a run for good: its record, events, log and adapter. Raises CdkaError while a process is at work."""
        run_id = self._row(run_id)["run_id"]  # also one whose record is damaged
        with self.database.write() as sql:
            row = sql.execute("SELECT status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is not None and row["status"] in LIVE:
                raise CdkaError(f"a run at work cannot be removed: {run_id} is {row['status']}. Cancel it first.")
            sql.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
        self.damaged.pop(run_id, None)
        shutil.rmtree(run_directory(self.home, run_id), ignore_errors=True)

    def describe_sweep(
        self, sweep_id: str, *, name: str | None = None, note: str | None = None, tags: Sequence[str] | None = None
    ) -> None:
        """Give a sweep another name, a note, or tags; None leaves each as it is. Raises CdkaError for an empty name."""
        if name is not None and not name.strip():
            raise CdkaError("a sweep needs a name: got an empty one. Example: rank against alignment.")
        with self.database.write() as sql:
            row = self._sweep_row(sql, sweep_id)
            plan = json.loads(row["plan"])
            if note is not None:
                plan["note"] = note.strip()
            if tags is not None:
                plan["tags"] = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
            sql.execute(
                "UPDATE sweeps SET name = ?, plan = ? WHERE sweep_id = ?",
                (row["name"] if name is None else name.strip(), dump(plan), sweep_id),
            )

    def remove_sweep(self, sweep_id: str) -> None:
        """Forget a sweep and all its runs for good. Raises CdkaError while one of them is queued or at work."""
        runs = self.runs(sweep_id=sweep_id)
        if unfinished := [run for run in runs if not run.status.is_finished()]:
            raise CdkaError(
                f"a sweep at work cannot be removed: {len(unfinished)} of {len(runs)} runs have not ended. "
                "Stop it first."
            )
        for run in runs:
            self.remove(run.run_id)
        with self.database.write() as sql:
            sql.execute("DELETE FROM sweeps WHERE sweep_id = ?", (self._sweep_row(sql, sweep_id)["sweep_id"],))

    def close(self) -> None:
        """Close the database."""
        self.database.close()


_STATES = frozenset(RunState)


def _check_pack(specs: Sequence[RunSpec], number: int | None) -> None:
    """Raises CdkaError where a run cannot share the batches of its pack."""
    alone = next((spec for spec in specs if number is not None and not spec.can_share_batches), None)
    if alone is not None:
        raise CdkaError(
            f"only cdka runs of one process share a pack: got {alone.label} in pack {number}. Give it None."
        )
