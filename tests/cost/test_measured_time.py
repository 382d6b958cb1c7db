"""Estimates from a measurement of the machine, and runs that are fitted to a time."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest

from cdka.cli import estimate
from cdka.cli.estimate import seconds_of
from cdka.cost.judging import Costs
from cdka.cost.measurement import Measurement
from cdka.cost.time import TimeTooShort, estimate_measured, fit_to_time, makespan, phases_of
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec

WRITER = Measurement(
    load_s=6.0,
    prepare_s=8.0,
    measure_s=10.0,
    costs=Costs(step_s=2.0, example_s=0.25, answer_s=4.0),
    train_of=6_000,
    eval_of=1_120,
    test_of=1_319,
    generates=True,
)
AUTO = {"eval_examples": "auto", "generate_examples": "auto", "test_examples": "auto"}


RUN_S = 6.0 + 8.0 + 6 * 16 * 0.25 + 8 * 4.25 + 1.0
"""WRITER's seconds of all but training in the shortest run: load, prepare, six looks, the test, save."""


def spec(**changes) -> RunSpec:
    return RunSpec("digits-vit", "digits-flip", **{"steps": 100, "eval_every": 20, **changes})


def test_every_phase_is_what_the_measured_costs_make_of_it():
    phases = phases_of(spec(eval_examples=40, generate_examples=8, test_examples=16), WRITER)
    assert phases == {
        "load": 6.0,
        "prepare": 8.0,
        "train": 200.0,
        "evaluate": 6 * 40 * 0.25,
        "generate": 6 * 8 * 4.0,
        "test": 16 * 4.25,
        "save": 1.0,
    }


def test_judging_everything_is_seen_to_take_hours():
    phases = phases_of(spec(eval_examples="all", generate_examples="all", test_examples="all"), WRITER)
    assert phases["generate"] + phases["test"] > 9 * 3600


def test_auto_judging_is_at_most_a_quarter_of_a_long_training():
    long = phases_of(spec(steps=4_000, eval_every=500, **AUTO), WRITER)
    assert long["evaluate"] + long["generate"] + long["test"] <= 0.25 * long["train"]


@pytest.mark.parametrize("minutes", [5, 10, 60])
def test_a_run_fitted_to_a_time_takes_it(minutes):
    chosen = fit_to_time(spec(), WRITER, minutes * 60)
    fitted = spec(**chosen)
    taken = sum(phases_of(fitted, WRITER).values())
    assert 0.9 * minutes * 60 < taken <= minutes * 60
    assert fitted.steps // fitted.eval_every >= 5
    assert all(isinstance(value, int) for value in chosen.values()), "stored, so that all arms are judged alike"


def test_a_time_that_is_too_short_is_refused_with_what_it_would_take():
    with pytest.raises(CdkaError, match=r"suffice for 5 steps and their judging: got 20 s, and here they take \d+ s"):
        fit_to_time(spec(), WRITER, 20.0)


def test_the_smallest_batches_are_for_a_time_that_has_no_other():
    """Updates of 16 examples take 40 s: five of a single one fit into the time, and five of four do not."""
    slow = replace(WRITER, costs=replace(WRITER.costs, step_s=40.0))
    times = [RUN_S + 5 * 40.0 * size / 16 for size in (1, 4)]
    short = fit_to_time(spec(batch_size=16, **AUTO), slow, sum(times) / 2, smaller_batches=True)
    assert short["batch_size"] < 4
    assert fit_to_time(spec(batch_size=16, **AUTO), slow, times[1] + 10, smaller_batches=True)["batch_size"] == 4


def test_the_shortest_run_starts_where_measuring_took_the_time(monkeypatch, capsys):
    def settings(runs, store, seconds, **_):
        if seconds < 170:
            raise TimeTooShort("the time must suffice", 169.3)
        return {"steps": 5}

    monkeypatch.setattr(estimate, "measure", lambda *_, **__: None)
    monkeypatch.setattr(estimate, "time_settings", settings)
    monkeypatch.setattr(estimate.time, "time", lambda: psutil.Process().create_time() + 130.0)
    assert estimate.fitted([], None, "4m") == {"steps": 5}
    assert "took 2:10 of 4m: the shortest run takes 2:49 from here" in capsys.readouterr().err
    with pytest.raises(TimeTooShort):
        estimate.fitted([], None, "2m")


def test_runs_take_turns_where_slots_are_few():
    run = (spec(test_examples=16), WRITER)
    one = estimate_measured([[run]])
    four = estimate_measured([[run]] * 4, slots=2)
    assert four.seconds == pytest.approx(2 * one.seconds)
    assert sum(four.phases.values()) == pytest.approx(4 * one.seconds)


def test_the_runs_of_a_pack_load_once():
    run = (spec(test_examples=16), WRITER)
    one, pack = estimate_measured([[run]]), estimate_measured([[run] * 3])
    assert pack.seconds == pytest.approx(3 * one.seconds - 2 * (WRITER.load_s + WRITER.prepare_s))
    assert pack.phases["load"] == WRITER.load_s


def test_what_is_to_be_retained_is_judged_twice():
    kept = replace(WRITER, retained_s=7.0)
    before, after = (phases_of(spec(eval_examples=40), one)["evaluate"] for one in (WRITER, kept))
    assert after - before == pytest.approx(14.0)


def test_a_sweep_fitted_to_a_time_takes_it_in_its_packs_and_slots():
    """Two packs of four and two runs alone, two at a time: as long as one pack and one run."""
    chosen = fit_to_time(spec(**AUTO), WRITER, 1200.0, jobs=(4, 4, 1, 1), slots=2)
    fitted = (spec(**chosen), WRITER)
    taken = estimate_measured([[fitted] * 4, [fitted] * 4, [fitted], [fitted]], slots=2).seconds
    assert 0.9 * 1200 < taken <= 1200


def test_a_number_of_examples_that_was_asked_for_stays_when_a_run_is_fitted():
    chosen = fit_to_time(spec(eval_examples=50, test_examples="auto"), WRITER, 600.0)
    assert chosen["eval_examples"] == 50


def test_jobs_start_where_a_place_becomes_free():
    assert makespan([4, 4, 1, 1], 2) == 5
    assert makespan([1, 1, 4], 2) == 5
    assert makespan([], 2) == 0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2 h", 7200), ("1.5m", 90)])
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "0s", "ten minutes", "1e3s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(CdkaError, match="--time takes a number of seconds, minutes or hours"):
        seconds_of(text)


def test_an_engine_that_is_not_ready_starts_first():
    fresh = replace(WRITER, start_s=9.0)
    run = (spec(test_examples=16), fresh)
    cold, warm = estimate_measured([[run]] * 2, slots=2), estimate_measured([[run]] * 2, slots=2, engine_ready=True)
    assert cold.seconds == pytest.approx(warm.seconds + 9.0), "once, however many jobs"


def test_a_short_time_is_spent_on_steps_rather_than_on_large_batches():
    short = fit_to_time(spec(batch_size=16, **AUTO), WRITER, 90.0, smaller_batches=True)
    kept = fit_to_time(spec(batch_size=16, **AUTO), WRITER, 90.0)
    assert short["batch_size"] in (4, 8)
    assert "batch_size" not in kept
    assert short["steps"] > kept["steps"]
    assert "batch_size" not in fit_to_time(spec(batch_size=16, **AUTO), WRITER, 900.0, smaller_batches=True)


def test_a_small_batch_of_answers_takes_nearly_as_long_as_a_large_one():
    costs = Costs(step_s=1.0, example_s=0.1, answer_s=0.5, decode_s=20.0, answer_rows=16)
    assert costs.answers_s(0) == 0
    assert costs.answers_s(1) == pytest.approx(20.5)
    assert costs.answers_s(16) == pytest.approx(28.0)
    assert costs.answers_s(17) == pytest.approx(48.5)
