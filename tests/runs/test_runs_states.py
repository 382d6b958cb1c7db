"""The states of a run: which are live, finished and kept, and that no change outside the table is stored."""

from __future__ import annotations

import itertools
import json

import pytest

from cdka.runs.job_queue import reserve
from cdka.runs.spec import RunSpec
from cdka.runs.states import FINISHED, KEPT, LIVE, RETRIABLE, TRANSITIONS, IllegalTransition, RunState, change_state
from cdka.runs.store import Store

LEGAL = {
    "queued": "starting cancelled",
    "starting": "running queued cancelled failed lost",
    "running": "stopping done stopped cancelled failed lost",
    "stopping": "stopping done stopped cancelled failed lost",
    "done": "",
    "stopped": "queued",
    "cancelled": "queued",
    "failed": "queued",
    "lost": "queued",
}


def test_every_state_is_queued_live_or_finished():
    for state in RunState:
        assert [state == RunState.QUEUED, state.is_live(), state.is_finished()].count(True) == 1
        assert not state.is_kept() or state.is_finished()
    assert {state for state in RunState if state.is_live()} == set(LIVE) == {"starting", "running", "stopping"}
    assert set(KEPT) == {"done", "stopped"}
    assert set(RETRIABLE) == {"stopped", "cancelled", "failed", "lost"} == set(FINISHED) - {"done"}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunState, RunState)))
def test_only_the_changes_of_the_table_are_stored(tmp_path, before, after):
    store = Store(tmp_path)
    (run_id,) = store.submit(RunSpec("digits-vit", "digits-flip"))
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET status = ?", (before,))
    allowed = after in LEGAL[before].split()
    assert (after in TRANSITIONS[before]) == allowed
    if allowed:
        with store.database.write() as sql:
            change_state(sql, 1, after, error="why")
        assert (store.run(run_id).status, store.run(run_id).error) == (after, "why")
        return

    def change() -> None:
        with store.database.write() as sql:
            sql.execute("UPDATE runs SET error = 'half of a transaction'")
            change_state(sql, 1, after)

    with pytest.raises(IllegalTransition, match=f"a run that is {before} cannot become {after}"):
        change()
    assert (store.run(run_id).status, store.run(run_id).error) == (before, None)


def test_a_state_is_a_word_in_json_in_frames_and_in_the_file(tmp_path):
    store = Store(tmp_path)
    store.submit(RunSpec("digits-vit", "digits-flip"))
    reserve(store.database, lambda spec: "cpu:0")
    (run,) = store.runs()
    assert run.status is RunState.STARTING
    assert json.dumps(run.status) == '"starting"'
    assert f"{run.status}" == "starting"
    assert [type(value) for value in store.frame()["status"]] == [str]
    with store.database.read() as sql:
        assert tuple(sql.execute("SELECT status, typeof(status) FROM runs").fetchone()) == ("starting", "text")
