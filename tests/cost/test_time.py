"""The time that runs take: before they start, and left while they are at work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdka.cost.time import TimeEstimate, in_parallel, time_left_s
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

SPEC = RunSpec("digits-vit", "digits-flip", steps=100)


@pytest.fixture
def run():
    store = Store()
    (run_id,) = store.submit([SPEC])
    return store.run(run_id)


def test_nothing_is_said_before_there_is_a_pace_nor_after_the_end(run):
    assert time_left_s([]) is None
    assert time_left_s([run, run]) is None
    assert time_left_s([replace(run, status="starting")]) is None
    assert time_left_s([replace(run, status="done", step=100, worked_s=10.0)]) is None


def test_one_run_at_work_goes_on_at_its_pace(run):
    assert time_left_s([replace(run, status="running", step=20, elapsed_s=4.0)]) == pytest.approx(16.0)


def test_a_resumed_run_counts_its_own_steps_only(run):
    resumed = replace(run, status="running", step=60, first_step=50, elapsed_s=2.0)
    assert time_left_s([resumed]) == pytest.approx(8.0)


def test_waiting_runs_share_the_places_of_those_at_work(run):
    at_work = replace(run, status="running", step=50, elapsed_s=5.0)  # 0.1 s a step, 5 s to go
    assert time_left_s([at_work, run, run]) == pytest.approx(5 + 10 + 10)
    assert time_left_s([at_work, at_work, run, run]) == pytest.approx((5 + 5 + 10 + 10) / 2)
    longest = replace(run, spec=SPEC.with_(steps=1000))
    assert time_left_s([at_work, at_work, longest]) == pytest.approx(100), "no sooner than its longest run"


def test_finished_runs_tell_the_pace_of_their_own_model_and_task(run):
    done = replace(run, status="done", step=100, worked_s=20.0)
    other = replace(run, status="stopped", step=10, worked_s=50.0, spec=SPEC.with_(model="math-lm", task="math-chain"))
    failed = replace(run, status="failed", step=0, elapsed_s=None)
    assert time_left_s([done, other, failed, run]) == pytest.approx(20.0)


def test_no_time_left_is_stated_while_the_speed_is_all_loading(run):
    assert time_left_s([replace(run, status="running", step=2, elapsed_s=4.0)]) is None
    assert time_left_s([replace(run, status="running", step=3, elapsed_s=4.0)]) is not None


def test_an_estimate_is_a_range_around_what_it_rests_on():
    measured = TimeEstimate(60.0, "measured", 0.25)
    assert measured.low_s == pytest.approx(48.0)
    assert measured.high_s == pytest.approx(75.0)
    assert TimeEstimate(None, "unknown").to_dict()["seconds"] is None


def test_equal_runs_take_turns_where_there_are_fewer_slots():
    assert in_parallel(40.0, 4, 1) == 40.0
    assert in_parallel(40.0, 4, 3) == 20.0
    assert in_parallel(40.0, 4, 8) == 10.0
