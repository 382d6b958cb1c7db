"""Bring the tables of an older version up to date: one function for each version, run in one transaction.

A worker that an older version started may still be at work while its file is migrated. ``MIGRATIONS[1]`` therefore
leaves triggers behind that translate what such a worker goes on writing; ``drop_triggers`` removes them once no run is
at work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from cdka.runs.events import Evaluated, Final, Step
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, OLD_NAMES, TRAIN_LOSS
from cdka.runs.schema import HALVING_INDEX, QUEUE_INDEX
from cdka.runs.states import LIVE

_STEP = {"loss": TRAIN_LOSS}
_EVALUATED = {"accuracy": EVAL_ACCURACY, "loss": EVAL_LOSS}
_TRIGGER = "from_0_1_0_"


def _renamed(column: str, names: Mapping[str, str]) -> str:
    """The SQL expression of a JSON column with these keys renamed; the store writes JSON without spaces."""
    for old, new in names.items():
        column = f"""replace({column}, '"{old}":', '"{new}":')"""
    return column


def _body(name: str) -> str:
    """The SQL expression of the body of an event under today's names of metrics."""
    evaluated = f"""replace({_renamed(name, _EVALUATED)}, '"split":"validation",', '')"""
    kind = name.removesuffix("body") + "kind"
    return (
        f"CASE {kind} WHEN '{Step.kind}' THEN {_renamed(name, _STEP)} WHEN '{Evaluated.kind}' THEN {evaluated} "
        f"WHEN '{Final.kind}' THEN {_renamed(name, OLD_NAMES)} ELSE {name} END"
    )


def _last_eval(name: str) -> str:
    return f"""replace({_renamed(name, _EVALUATED)}, '"split":"validation",', '')"""


def _prefix_metrics(sql: sqlite3.Cursor) -> None:
    """From version 1, that of 0.1.0: metrics are named by their split; two columns of ``runs`` are renamed."""
    sql.execute(
        f"UPDATE events SET body = {_body('body')} WHERE kind IN ('{Step.kind}', '{Evaluated.kind}', '{Final.kind}')"
    )
    sql.execute(f"UPDATE runs SET metrics = {_renamed('metrics', OLD_NAMES)}, last_eval = {_last_eval('last_eval')}")
    sql.execute("ALTER TABLE runs RENAME COLUMN heard_at TO heartbeat_at")
    sql.execute("ALTER TABLE runs RENAME COLUMN stop TO stop_requested")
    if _anything_live(sql):
        _serve_workers_of_0_1_0(sql)


def _serve_workers_of_0_1_0(sql: sqlite3.Cursor) -> None:
    """Give workers of 0.1.0 the columns that they write and read, and translate what they write."""
    sql.execute("ALTER TABLE runs ADD COLUMN heard_at REAL")
    sql.execute("ALTER TABLE runs ADD COLUMN stop TEXT")
    sql.execute("UPDATE runs SET heard_at = heartbeat_at, stop = stop_requested")
    for name, when, columns in (
        ("heartbeat", "UPDATE OF heard_at ON runs", "heartbeat_at = NEW.heard_at"),
        ("stopped", "UPDATE OF stop ON runs WHEN NEW.stop IS NOT NEW.stop_requested", "stop_requested = NEW.stop"),
        (
            "stop",
            "UPDATE OF stop_requested ON runs WHEN NEW.stop IS NOT NEW.stop_requested",
            "stop = NEW.stop_requested",
        ),
        ("metrics", "UPDATE OF metrics ON runs", f"metrics = {_renamed('NEW.metrics', OLD_NAMES)}"),
        ("last_eval", "UPDATE OF last_eval ON runs", f"last_eval = {_last_eval('NEW.last_eval')}"),
    ):
        body = f"UPDATE runs SET {columns} WHERE n = NEW.n"
        sql.execute(f"CREATE TRIGGER {_TRIGGER}{name} AFTER {when} BEGIN {body}; END")
    sql.execute(
        f"CREATE TRIGGER {_TRIGGER}event AFTER INSERT ON events BEGIN UPDATE events SET body = {_body('NEW.body')} "
        "WHERE n = NEW.n AND attempt = NEW.attempt AND seq = NEW.seq; END"
    )


def _anything_live(sql: sqlite3.Cursor) -> bool:
    marks = ", ".join(f"'{state}'" for state in LIVE)
    return sql.execute(f"SELECT 1 FROM runs WHERE status IN ({marks}) LIMIT 1").fetchone() is not None


def has_triggers(sql: sqlite3.Connection | sqlite3.Cursor) -> bool:
    """True where workers of an older version are still served."""
    return sql.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger' LIMIT 1").fetchone() is not None


def drop_triggers(sql: sqlite3.Cursor) -> None:
    """Stop serving workers of older versions, unless a run is at work: it may be one of theirs."""
    if _anything_live(sql) or not has_triggers(sql):  # another process may have been here in the meantime
        return
    for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        sql.execute(f"DROP TRIGGER {name}")
    if sqlite3.sqlite_version_info >= (3, 35):  # an older SQLite cannot drop columns: they stay, unused
        sql.execute("ALTER TABLE runs DROP COLUMN heard_at")
        sql.execute("ALTER TABLE runs DROP COLUMN stop")


def _add_progress(sql: sqlite3.Cursor) -> None:
    """From version 2: ``runs`` has a column for how far the run has come in its phase."""
    sql.execute("ALTER TABLE runs ADD COLUMN progress TEXT")


def _index_queues(sql: sqlite3.Cursor) -> None:
    """From version 3: the queue of each engine, and sweeps to be halved, are found without reading the others."""
    sql.execute(QUEUE_INDEX)
    sql.execute(HALVING_INDEX)


MIGRATIONS: Mapping[int, Callable[[sqlite3.Cursor], None]] = {
    1: _prefix_metrics,
    2: _add_progress,
    3: _index_queues,
}
"""By the version that each starts from; it ends with the next."""
