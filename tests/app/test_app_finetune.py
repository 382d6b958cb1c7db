"""The Fine-tune room: the order, its preview, one launch per wish, and what is shown of each run."""

from __future__ import annotations

import itertools
import json
import re
import time
from dataclasses import replace

import pandas as pd
import pytest

from app import data as launching
from app.data import Launcher, Stream
from app.finetune import live_panel, race_curves, run_rows
from app.finetune.feed import Feed, Track
from app.finetune.run_request import RunRequest
from cdka.cost.adapter import count_params
from cdka.cost.judging import Costs
from cdka.cost.measurement import Measurement
from cdka.errors import CdkaError
from cdka.runs import events, learning_rate
from cdka.runs.job_queue import Batch, claim, conclude, record_events, reserve
from cdka.runs.learning_rate import Measured
from cdka.runs.resolve import resolve_run, spec_for
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.sweep.plan import plan


@pytest.fixture
def idle(monkeypatch):
    """No engine: what is launched stays in the queue."""
    started = []
    for module in ("app.finetune.live_panel", "app.finetune.actions", "cdka.engine.local"):
        monkeypatch.setattr(f"{module}.ensure_dispatcher", lambda store: started.append(store) or True)
    return started


def texts(app) -> str:
    return " ".join(element.value for element in app.markdown)


SPEC = spec_for("digits-vit", "digits-flip", components=(2, 8, 1))


def test_opens_with_an_example_and_the_one_button_that_starts_it(room, idle):
    app = room("finetune")
    assert "Nothing has been trained here yet" in texts(app)
    app.button(key="fill-tune").click().run()
    assert not app.exception
    runs = Store().runs()
    assert [run.spec.label for run in runs] == ["cdka 2,8,1", "lora 2"]
    assert {run.status for run in runs} == {RunState.QUEUED}
    assert idle, "somebody was asked to work on the queue"
    assert "2 runs: 2 waiting" in texts(app)


def test_the_preview_tells_runs_and_parameters_before_the_click(room, idle):
    app = room("finetune", basket=["2,8,1", "4,8,1"])
    app.number_input(key="tune-seeds").set_value(3).run()
    assert "12 runs" in texts(app), "two configurations of two prices, a LoRA for each"
    assert "lora 2 costs as much as cdka 2,8,1." in texts(app)
    assert "lora 1 comes nearest (-20%) to cdka 4,8,1." in texts(app)
    assert "4 configurations × 3 seeds, 200 steps each" in texts(app)
    assert 'title="15,232' in texts(app)
    assert app.button(key="launch").label == "Launch 12 runs"


def test_the_recipe_fills_the_form_and_a_regime_changes_it(room, idle):
    app = room("finetune")
    knobs = lambda: (app.number_input(key="tune-steps").value, app.text_input(key="tune-lr").value)  # noqa: E731
    assert knobs() == (200, "0.003")
    app.button_group(key="tune-regime").set_value("Early steps").run()
    assert knobs() == (120, "0.002")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("tune-lr", "fast", "The learning rate must be a positive number"),
        ("tune-lr", "-1", "The learning rate must be a positive number"),
    ],
)
def test_bad_knobs_are_told_and_nothing_can_be_launched(room, idle, key, value, told):
    app = room("finetune")
    app.text_input(key=key).set_value(value).run()
    assert told in texts(app)
    assert not [button for button in app.button if button.key == "launch"]
    assert Store().runs() == []


def test_auto_takes_the_rate_measured_for_each_method_and_tells_its_source(room, idle, monkeypatch):
    known = [
        Measured(method, ("digits-vit",), "digits-flip", lr, lr / 2, 2 * lr, 16.0, 120, ("a",), 0.5, "rates.md")
        for method, lr in (("cdka", 0.008), ("lora", 0.002))
    ]
    monkeypatch.setattr(learning_rate, "measured_rates", lambda: known)
    app = room("finetune", basket=["2,8,1"])
    app.text_input(key="tune-lr").set_value("auto").run()
    told = re.sub("<[^>]*>", "", texts(app))
    assert (
        "Learning rate of cdka 0.008 (95 % interval 0.004 to 0.016): best for a over 1 base model at alpha 16" in told
    )
    assert "Learning rate of lora 0.002 (95 % interval 0.001 to 0.004)" in told
    app.button(key="launch").click().run()
    assert not app.exception
    assert {run.spec.method: run.spec.lr for run in Store().runs()} == {"cdka": 0.008, "lora": 0.002}


def test_components_that_do_not_divide_are_refused_before_the_queue(room, idle):
    app = room("finetune", basket=["3,8,1"])
    assert "r1 must divide out_features" in texts(app)
    assert not [button for button in app.button if button.key == "launch"]


def test_a_double_click_launches_once_and_a_later_wish_again(monkeypatch):
    store, launcher = Store(), Launcher()
    request = RunRequest("digits-vit", "digits-flip", ("2,8,1",))
    first = launcher.launch(store, request.plan(), repr(request))
    assert launcher.launch(store, request.plan(), repr(request)) == first
    assert len(store.runs()) == 1
    another = RunRequest("digits-vit", "digits-flip", ("4,8,1",))
    other = launcher.launch(store, another.plan(), repr(another))
    assert other != first
    now = time.monotonic()
    monkeypatch.setattr(launching.time, "monotonic", lambda: now + 60)
    assert launcher.launch(store, request.plan(), repr(request)) not in (first, other)


def test_a_run_can_be_cancelled_and_ordered_again_from_its_row(room, idle):
    store = Store()
    planned = plan("digits-vit", "digits-flip", arms=[{"components": (4, 16, 1)}], seeds=1, settings={"steps": 33})
    sweep = store.create_sweep("mine", planned.document, planned.specs)
    (run,) = store.runs(sweep_id=sweep)
    app = room("finetune")
    app.session_state[f"menu-{run.run_id}"] = True
    app.run()
    app.button(key=f"again-{run.run_id}").click().run()
    assert app.multiselect(key="basket").value == ["4,16,1"]
    assert app.number_input(key="tune-steps").value == 33
    assert app.button(key="launch").label == "Launch 1 run", "that run alone, without baselines"
    app.button(key=f"cancel-{run.run_id}").click().run()
    assert store.run(run.run_id).status == RunState.CANCELLED
    app.button(key=f"ask-{run.run_id}").click().run()
    assert [one.run_id for one in store.runs()] == [run.run_id], "asks once more"
    app.button(key=f"remove-{run.run_id}").click().run()
    assert store.runs() == []
    assert not app.exception


def test_the_url_names_the_sweep_that_is_shown(room, idle):
    store = Store()
    for name, components in (("first", (2, 8, 1)), ("second", (4, 8, 1))):
        planned = plan("digits-vit", "digits-flip", arms=[{"components": components}], seeds=1, name=name)
        store.create_sweep(name, planned.document, planned.specs)
    first = next(sweep for sweep in store.sweeps() if sweep.name == "first")
    app = room("finetune", show=first.sweep_id)
    assert app.selectbox(key=live_panel.SHOW).value == first.sweep_id
    assert "1 run: 1 waiting" in texts(app)
    assert room("finetune", show="s-gone").selectbox(key=live_panel.SHOW).value == "now"


def test_all_runs_are_narrowed_by_pick_lists_and_words_and_come_page_by_page(room, idle, monkeypatch):
    monkeypatch.setattr(live_panel, "MAX_RUNS", 2)
    store = Store()
    first, *_, last = store.submit([SPEC.with_(seed=seed) for seed in range(4)])
    store.submit(spec_for("math-lm", "math-chain", components=(1, 4, 1)))
    store.request_stop(first, keep=False)
    app = room("finetune", show="all")
    assert app.number_input(key="tune-list-page").label == "Page, of 3: 5 runs, the newest first"
    assert "2 runs: 2 waiting" in texts(app)
    app.number_input(key="tune-list-page").set_value(3).run()
    assert "1 run: 1 cancelled" in texts(app)
    app.selectbox(key="tune-list-model").set_value("math-lm").run()
    assert "1 run: 1 waiting" in texts(app), "a page that there is no longer is left"
    app.selectbox(key="tune-list-model").set_value("any model").run()
    app.selectbox(key="tune-list-state").set_value("cancelled").run()
    assert "1 run: 1 cancelled" in texts(app)
    app.text_input(key="tune-list-search").set_value("r1 2 seed 0").run()
    assert "1 run: 1 cancelled" in texts(app)
    app.text_input(key="tune-list-search").set_value(last).run()
    assert "No run here matches." in texts(app)
    app.selectbox(key="tune-list-state").set_value("waiting").run()
    app.selectbox(key="tune-list-date").set_value("last 24 hours").run()
    assert "1 run: 1 waiting" in texts(app)
    assert not app.exception


def test_the_feed_keeps_the_whole_history_and_draws_at_most_300_points():
    store = Store()
    (run_id,) = store.submit([SPEC])
    feed = Feed()
    feed.refresh(store, [run_id])
    track = feed.tracks[run_id]
    for step in range(2000):
        track.add({"kind": "step", "step": step, "train/loss": 1.0 / (step + 1)})
        if step % 4 == 0:
            track.add({"kind": "eval", "step": step, "eval/accuracy": step / 2000, "eval/loss": 1.0})
    training, validation = feed.training([run_id]), feed.validation([run_id])
    assert len(track.losses) == 2000
    assert len(training) == len(validation) == 300
    assert (training["step"].iloc[0], training["step"].iloc[-1]) == (0, 1999)
    assert (validation["step"].iloc[0], validation["step"].iloc[-1]) == (0, 1996)


def test_the_best_evaluation_is_the_first_of_equals():
    track = Track()
    for step, accuracy in ((0, 0.1), (20, 0.9), (40, None), (60, 0.9), (80, 0.8)):
        track.add({"kind": "eval", "step": step, "eval/accuracy": accuracy, "eval/loss": 1.0})
    assert track.best == (0.9, 20)


def test_a_row_tells_state_progress_and_error_in_words():
    store = Store()
    (run_id,) = store.submit([SPEC])
    run = store.run(run_id)
    html = run_rows.row_html(run, Track())
    assert "waiting" in html
    assert "200 steps to do" in html
    assert "no evaluation yet" in html
    from dataclasses import replace

    live_run = replace(run, status="running", phase="training", step=120, elapsed_s=12.0, samples=7680)
    assert "step 120 of 200, 0:08 left" in run_rows.row_html(live_run, Track())
    assert "640 samples/s" in run_rows.row_html(live_run, Track())
    failed = replace(run, status="failed", error="out of memory <b>")
    assert "out of memory &lt;b&gt;" in run_rows.row_html(failed, Track())


def test_a_row_names_the_parameters_that_the_form_announced_and_a_new_head_beside_them():
    store = Store()
    (run_id,) = store.submit([SPEC])
    adapter = count_params(resolve_run(SPEC))
    (arm,) = run_rows.arms_of([replace(store.run(run_id), num_params=adapter)])
    assert "new head" not in run_rows.arm_html(arm, {run_id: Track()})
    with_head = run_rows.ArmRuns(arm.label, (replace(arm.runs[0], num_params=adapter + 1538),))
    row = run_rows.arm_html(with_head, {run_id: Track()})
    assert f'title="{adapter:,} parameters"' in row
    assert "1,538 of a new head" in row


def test_a_chart_stays_the_same_while_points_arrive_so_that_zoom_and_drawing_survive():
    store, feed = Store(), Feed()
    run_ids = store.submit([SPEC, SPEC.with_(seed=1)])
    feed.refresh(store, run_ids)
    drawn = []
    for step in range(0, 60, 20):
        for run_id in run_ids:
            feed.tracks[run_id].add({"kind": "step", "step": step, "train/loss": 3.0 - step / 100})
            feed.tracks[run_id].add(
                {"kind": "eval", "step": step, "eval/accuracy": 0.5 + step / 1000, "eval/loss": 1.0}
            )
        training = feed.training(run_ids)
        drawn.append(
            json.dumps(
                [
                    race_curves.validation(("2,8,1",), ("#000000",), 200, 0.1),
                    race_curves.training(("2,8,1",), ("#000000",), 200, race_curves.top_loss(training)),
                ]
            )
        )
    assert len(set(drawn)) == 1
    assert '"bind": "scales"' in drawn[0], "the charts can be zoomed"
    points = race_curves.race_points(feed.validation(run_ids))
    means = points[points["kind"] == "mean"]
    assert means["score"].tolist() == [0.5, 0.52, 0.54]
    assert set(means["seeds"]) == {2}
    assert len(points[points["kind"] == "seed"]) == 6, "every run beside the mean"
    assert points["name"].dropna().tolist() == ["cdka 2,8,1"], "one name per configuration, at its last point"
    assert points.loc[points["name"].notna(), "step"].tolist() == [40]


def test_names_at_the_ends_of_curves_stay_apart_and_inside():
    points = pd.DataFrame(
        {"label": [f"{2**i},8,1" for i in range(6)], "run": list("abcdef"), "seed": 0, "step": 200, "score": 0.99}
    )
    heights = sorted(race_curves.named(points)["name_at"])
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.08
    assert heights[-1] < 0.97
    nothing = pd.DataFrame(columns=["label", "run", "seed", "step", "accuracy", "loss"])
    assert race_curves.race_points(nothing)["name"].empty


def test_runs_without_judged_answers_are_followed_by_their_validation_loss():
    store, feed = Store(), Feed()
    (run_id,) = store.submit([SPEC])
    feed.refresh(store, [run_id])
    for step, loss in ((0, 1.4), (3, 1.04), (6, 0.96)):
        feed.tracks[run_id].add({"kind": "eval", "step": step, "eval/loss": loss})
    points = feed.validation([run_id])
    assert race_curves.measure_of(points) == "loss"
    means = race_curves.race_points(points).query("kind == 'mean'")
    assert means["score"].tolist() == [1.4, 1.04, 0.96]
    drawn = race_curves.validation(("2,8,1",), ("#000000",), 9, 0.1, "loss", race_curves.top_loss(points))
    assert "validation loss" in json.dumps(drawn)
    assert "chance" not in json.dumps(drawn)
    (arm,) = run_rows.arms_of([store.run(run_id)])
    row = run_rows.arm_html(arm, feed.tracks)
    assert "<b>0.960 (1 seed)</b> validation loss" in row
    assert 'aria-label="validation loss so far"' in row
    metrics = {"test/accuracy": 0.125, "test/answered": 8, "test/of": 1319}
    done = run_rows.ArmRuns(arm.label, (replace(arm.runs[0], status="done", metrics=metrics),))
    assert "<b>0.125 (1 seed)</b> test accuracy on 8 of 1,319" in run_rows.arm_html(done, feed.tracks)


def test_a_configuration_keeps_its_colour_whatever_else_is_drawn():
    alone = race_curves.colours(("2,8,1",))[0]
    assert race_curves.colours(("lora 8", "4,8,1", "2,8,1", "full"))[2] == alone
    assert race_curves.colours(("2,8,1", "1,8,2"))[0] == alone
    assert race_curves.colour_of("2,8,1 · lr 0.01") != alone, "a variant of it is another line"


def test_rows_are_configurations_with_their_seeds_together():
    store = Store()
    specs = [SPEC.with_(seed=s) for s in range(3)] + [SPEC.with_(lr=0.01)]
    store.submit(specs)
    arms = run_rows.arms_of(store.runs())
    assert [len(arm.runs) for arm in arms] == [3, 1]
    assert arms[0].label.startswith("2,8,1 · lr ")
    assert arms[1].label == "2,8,1 · lr 0.01"
    row = run_rows.arm_html(arms[0], {run.run_id: Track() for run in arms[0].runs})
    assert "3 seeds" in row
    assert 'data-arm="2,8,1 · lr' in row


def test_a_run_ordered_again_is_the_same_run(room, idle):
    """All of its settings, also those that the form does not show: they are told, and can be dropped."""
    store = Store()
    odd = spec_for(
        "digits-vit",
        "digits-flip",
        components=(4, 8, 2),
        seed=3,
        lr=0.0123,
        steps=77,
        batch_size=24,
        alpha=5.0,
        schedule="constant",
        target_modules=("q_proj", "v_proj"),
        scaling_rule="none",
        checkpoint_every=7,
    )
    (run_id,) = store.submit([odd])
    app = room("finetune")
    app.session_state[f"menu-{run_id}"] = True
    app.run()
    app.button(key=f"again-{run_id}").click().run()
    assert not app.exception
    assert f"As in {run_id}" in texts(app)
    app.button(key="launch").click().run()
    (again,) = [run for run in store.runs() if run.run_id != run_id]
    assert again.spec == odd
    app.session_state[f"menu-{run_id}"] = False
    app.button(key="tune-drop").click().run()
    app.button(key="launch").click().run()
    assert store.runs()[-1].spec == spec_for(
        "digits-vit", "digits-flip", components=(4, 8, 2), lr=0.0123, steps=77, batch_size=24, alpha=5.0
    )


def test_all_runs_shown_are_stopped_with_one_click(room, idle):
    store = Store()
    run_ids = store.submit([SPEC.with_(seed=seed) for seed in range(4)])
    app = room("finetune")
    app.session_state["menu-all"] = True
    app.run()
    assert [button.label for button in app.button if button.key.startswith("all-")] == [
        "Cancel 4 waiting",
        "Cancel all 4",
    ]
    app.button(key="all-waiting").click().run()
    assert {store.run(run_id).status for run_id in run_ids} == {RunState.CANCELLED}
    assert not app.exception


def test_many_runs_are_shown_in_pages_and_found_by_words(room, idle, monkeypatch):
    monkeypatch.setattr("app.finetune.live_panel.MAX_RUNS", 3)
    store = Store()
    specs = [RunSpec("digits-vit", "digits-flip", components="2,8,1", seed=seed) for seed in range(7)]
    sweep_id = store.create_sweep("seven", {"kind": "grid"}, specs)

    def summary(app):
        return next(element.value for element in app.markdown if " waiting" in element.value)

    def page(app):
        return next(box for box in app.number_input if box.label.startswith("Page, of"))

    app = room("finetune", show=sweep_id)
    assert page(app).label == "Page, of 3: 7 runs"
    assert "3 runs" in summary(app)
    page(app).set_value(3).run()
    assert "1 run:" in summary(app)
    app = room("finetune", show="all")
    assert page(app).label == "Page, of 3: 7 runs, the newest first"
    app.text_input(key="tune-list-search").set_value("seed 5 waiting").run()
    assert "1 run:" in summary(app)
    assert not [box for box in app.number_input if box.label.startswith("Page, of")]
    app.text_input(key="tune-list-search").set_value("seed 99").run()
    assert "No run here matches." in " ".join(element.value for element in app.markdown)


def test_the_menu_shows_the_stored_settings_the_log_and_each_attempt(room, idle):
    store = Store()
    (run_id,) = store.submit([SPEC.with_(lr=0.0456, max_grad_norm=0.7)])
    reserve(store.database, lambda spec: "cpu:0")
    claim(store.database, run_id, 1, (1, "start", "boot"))
    log = store.run(run_id).log_path
    log.parent.mkdir(parents=True)
    log.write_text("a line\n" * 10_000 + "the last line\n")
    told = "the loss or its gradient was no longer finite at step 3. Lower lr"
    record_events(store.database, [Batch(run_id, 1, 0, [events.Failed(cause=told, step=3)])])
    app = room("finetune", show="all")
    app.text_input(key="tune-lr").set_value("0.5").run()
    app.session_state[f"menu-{run_id}"] = True
    app.run()
    assert not app.exception
    settings, history = (frame.value for frame in app.dataframe)
    shown = dict(zip(settings["setting"], settings["value"], strict=True))
    assert shown["lr"] == "0.0456", "the run's own, not the form's"
    assert shown["max_grad_norm"] == "0.7"
    assert history.iloc[0].tolist()[2:] == ["failed", told]
    assert app.code[0].value.endswith("the last line")
    assert "Last lines of 70" in " ".join(caption.value for caption in app.caption)


def test_a_resumed_run_shows_its_whole_curve():
    store = Store()
    (run_id,) = store.submit([SPEC])
    for attempt, (first, last) in enumerate([(1, 40), (31, 60)], start=1):
        reserve(store.database, lambda spec: "cpu:0")
        claim(store.database, run_id, attempt, (1, "start", "boot"))
        sent = [events.Resumed(step=30)] if attempt == 2 else []
        for step in range(first, last + 1):
            sent.append(events.Step(step=step, loss=1 / step, samples=step, elapsed_s=step / 10))
            if step % 10 == 0:
                metrics = {"eval/accuracy": step / 100 + attempt / 1000, "eval/loss": 1.0}
                sent.append(events.Evaluated(step=step, metrics=metrics, elapsed_s=1.0))
        record_events(store.database, [Batch(run_id, attempt, 0, sent)])
        if attempt == 1:
            conclude(store.database, [(run_id, 1)], "lost", "why")
            store.retry(run_id)
    feed = Feed()
    feed.refresh(store, [run_id])
    assert feed.tracks[run_id].steps == list(range(1, 61))
    assert feed.tracks[run_id].eval_steps == [10, 20, 30, 40, 50, 60]
    assert feed.tracks[run_id].accuracies == pytest.approx([0.101, 0.201, 0.301, 0.402, 0.502, 0.602])


def test_runs_are_told_apart_by_what_differs_and_twins_by_their_name():
    store = Store()
    run_ids = store.submit([SPEC, SPEC.with_(lr=0.01), SPEC.with_(lr=0.01, seed=1), SPEC.with_(lr=0.01, seed=1)])
    told = run_rows.apart(store.runs())
    assert [told[run_id] for run_id in run_ids] == [
        "lr 0.003",
        "lr 0.01",
        f"lr 0.01 · {run_ids[2]}",
        f"lr 0.01 · {run_ids[3]}",
    ]
    assert set(run_rows.apart(store.runs(ids=run_ids[:1])).values()) == {""}
    assert "200 steps to do · lr 0.01" in run_rows.row_html(store.run(run_ids[1]), Track(), told[run_ids[1]])


def test_a_worker_that_says_nothing_is_told():
    store = Store()
    (run_id,) = store.submit([SPEC])
    from dataclasses import replace

    busy = replace(store.run(run_id), status="running", phase="training", heartbeat_at=time.time() - 20)
    assert "silent" not in run_rows.row_html(busy, Track())
    assert "silent for 2 min" in run_rows.row_html(replace(busy, heartbeat_at=time.time() - 130), Track())
    assert "silent" not in run_rows.row_html(replace(busy, status="done", heartbeat_at=1.0), Track())


WRITER = Measurement(
    load_s=2.0,
    prepare_s=1.0,
    measure_s=3.0,
    costs=Costs(step_s=0.5, example_s=0.01, answer_s=0.0),
    train_of=900,
    eval_of=300,
    test_of=597,
    generates=False,
)


def test_what_will_start_shows_time_by_phase_and_is_fitted_to_the_minutes_there_are(room, idle, monkeypatch):
    monkeypatch.setattr("cdka.sweep.forecast.measure", lambda run, home, load: (yield from ()))
    monkeypatch.setattr("cdka.sweep.forecast.measured", lambda run, home, load: WRITER)
    app = room("finetune", basket=["2,8,1"])
    assert "train</td>" in texts(app), "a row for each phase"
    assert "measured on this machine" in texts(app)
    app.button(key="time-2").click().run()
    for _ in range(50):
        if app.number_input(key="tune-steps").value != 200:
            break
        time.sleep(0.05)
        app.run()
    steps = app.number_input(key="tune-steps").value
    assert 100 < steps < 240, "half a second each, two runs in two minutes"
    assert "As in a fit to 2 minutes: eval every" in texts(app)


def test_a_choice_that_hurts_comes_with_the_button_that_mends_it(room, idle, monkeypatch):
    slow = replace(WRITER, costs=Costs(step_s=5.0, example_s=0.5, answer_s=0.0))
    monkeypatch.setattr("cdka.sweep.forecast.measured", lambda run, home, load: slow)
    app = room("finetune", basket=["2,8,1"])
    assert "Judging takes" in texts(app)
    app.button(key="advice-0").click().run()
    assert "eval examples auto" in texts(app)
    assert "Judging takes" not in texts(app)


def test_a_stream_keeps_the_last_part_of_each_and_the_refusal():
    def work():
        yield {"who": "base", "text": "4"}
        yield {"who": "base", "text": "42"}
        yield {"who": "cdka", "text": "7"}
        raise CdkaError("the model\nwent away.")

    stream = Stream(work())
    deadline = time.monotonic() + 20
    while not stream.done and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {who: part["text"] for who, part in stream.parts.items()} == {"base": "42", "cdka": "7"}
    assert stream.error == "the model went away."


def test_a_finished_run_is_asked_beside_its_base(room, idle, monkeypatch):
    store = Store()
    planned = plan("math-lm", "math-chain", arms=[{"components": (2, 4, 1)}], seeds=1)
    sweep = store.create_sweep("mine", planned.document, planned.specs)
    job = reserve(store.database, lambda spec: "cpu:0")
    ((run_id, attempt),) = job.runs
    claim(store.database, run_id, attempt, (1, "now", "boot"))
    final = events.Final(metrics={"test/accuracy": 0.5, "steps_done": 1})
    record_events(store.database, [Batch(run_id, attempt, 0, [final])])
    run = store.run(run_id)
    run.adapter_dir.mkdir(parents=True)
    line = {"example": 3, "prompt": "1+1=", "answer": "3", "predicted": "3", "label": "2"}
    run.answers_path.write_text(json.dumps(line))
    asked = []

    def ask(adapter, prompt, **how):
        asked.append((adapter, prompt, how["against"]))
        yield {"who": "base", "text": "I <3 sums", "seconds": 0.1}
        yield {"who": f"{run.spec.label} ({run_id})", "text": "42", "seconds": 0.2}

    monkeypatch.setattr("app.finetune.try_panel.ask", ask)
    app = room("finetune", show=sweep)
    app.session_state["try"] = True
    app.run()
    app.text_area(key="try-prompt-math-chain").set_value("7*6=").run()
    app.button(key="try-ask").click().run()
    for _ in range(50):
        if "42" in texts(app):
            break
        time.sleep(0.05)
        app.run()
    assert asked == [(run_id, "7*6=", ("base",))]
    assert "I &lt;3 sums" in texts(app), "an answer is text, never markup"
    assert "Its 1 test answer" in texts(app)
    assert not app.exception
