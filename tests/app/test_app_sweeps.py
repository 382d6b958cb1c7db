"""The Sweeps room: plans as arguments, file and command; what the page says before a launch; studies and verdicts."""

from __future__ import annotations

import argparse
import html
import io
import json
import math
import re
import shlex
import time
import zipfile
from dataclasses import replace

import pytest

from app import data as launching
from app.sweeps import arm_figure, plan_document, study_cards, verdict_html
from app.sweeps.sweep_card import progress, progress_html
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED, Finding
from cdka.cli import sweep as sweep_command
from cdka.cost.time import time_left_s
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.resolve import spec_for
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.sweep.plan import plan
from cdka.sweep.planfile import EXAMPLE

GRID = {
    "name": 'is r1 "free"? ü',
    "model": "digits-vit",
    "task": "digits-flip",
    "seeds": 2,
    "baselines": ["lora", "full"],
    "budget": "lora:2",
    "tune_lr": [1e-3, 3e-3],
    "settings": {"steps": 7, "batch_size": 8, "alpha": 8.0},
    "grid": {"r1": [1, 2], "r2": [4], "r": [1, 3]},
}
ARMS = {
    "name": "equal",
    "model": "digits-vit",
    "task": "digits",
    "seeds": [0, 5],
    "budget": 9000,
    "settings": {"steps": 5, "lr": 1e-5},
    "arms": [{"components": [2, 8, 1], "alpha": 4.0}, {"components": [4, 16, 2]}],
}


@pytest.fixture
def idle(monkeypatch):
    """No engine: what is launched stays in the queue."""
    asked = []
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda store: asked.append(store) or True)
    return asked


def texts(app) -> str:
    return html.unescape(" ".join(element.value for element in app.markdown))


def plain(app) -> str:
    return re.sub(r"<[^>]*>", "", texts(app))


# Plans as arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [GRID, ARMS], ids=["grid", "arms"])
def test_the_plan_file_plans_the_same_runs(arguments):
    again = plan_document.read(plan_document.toml(arguments).encode())
    assert plan_document.planned(again).specs == plan_document.planned(arguments).specs
    assert plan_document.planned(again).name == arguments["name"]


def test_the_command_plans_the_same_runs():
    parser = argparse.ArgumentParser()
    sweep_command.add_arguments(parser)
    program, word, *flags = shlex.split(plan_document.command(GRID).replace("\\\n", ""))
    assert (program, word) == ("cdka", "sweep")
    by_command = sweep_command._planned(parser.parse_args(flags))
    assert by_command.specs == plan_document.planned(GRID).specs
    assert by_command.name == GRID["name"]


def test_a_list_of_arms_goes_by_its_plan_file():
    assert plan_document.command(ARMS) == "cdka sweep plan.toml --wait"


@pytest.mark.parametrize("arguments", [GRID, ARMS], ids=["grid", "arms"])
def test_runs_are_counted_without_planning(arguments):
    assert plan_document.most_runs(arguments) == len(plan_document.planned(arguments).specs)


def test_consent_is_asked_above_ten_thousand_runs_and_a_hundred_thousand_are_refused_at_once():
    many = {**GRID, "seeds": 1001}
    assert plan_document.needs_consent(many) == 12_012
    assert plan_document.needs_consent(GRID) is None
    started = time.process_time()
    with pytest.raises(CdkaError, match=r"up to 100,000 runs at once: got 12,000,000,000"):
        plan_document.planned({**GRID, "seeds": 10**9}, allow_many=True)
    assert time.process_time() - started < 1.0, "a billion seeds are not listed first"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"model = ", r"the plan file must be TOML: mine\.toml: "),
        (
            b'model = "digits-vit"\ntask = "digits"\n\nsede = 3',
            r"mine\.toml, line 4, key 'sede'\. Did you mean 'seeds'",
        ),
        (b'model = "digits-vit"', r"mine\.toml has no 'task'"),
        (b"\xff\xfe", r"cannot be read: mine\.toml \(it is not UTF-8 text\)"),
        (b"#" * 64_001, r"at most 64,000 bytes: got 64,001 in 'mine\.toml'"),
        (b'model = "m"\ntask = "t"\narms = [1]', r"arms must be a list of tables: got 1 at mine\.toml, line 3"),
        (b'model = "m"\ntask = "t"\nbaselines = [1]', r"list of names: got 1 at mine\.toml, line 3"),
    ],
)
def test_a_bad_plan_file_is_refused_in_the_librarys_words(content, told):
    with pytest.raises(CdkaError, match=told) as refusal:
        plan_document.read(content, "../mine.toml")
    assert "/tmp" not in str(refusal.value)


def test_the_table_shows_the_mismatch_of_every_arm():
    made = plan(
        "digits-vit",
        "digits-flip",
        arms=[{"components": (2, 8, 1)}],
        baselines=["lora", "lokr", "full"],
        budget=9000,
        seeds=1,
    )
    rows = arm_figure.table(made).set_index("method")
    counts = {arm.spec.method: arm.num_params for arm in made.arms}
    for method in ("cdka", "lora", "lokr"):
        assert rows.loc[method, "mismatch"] == pytest.approx((counts[method] - 9000) / 9000)
    assert math.isnan(rows.loc["full", "mismatch"]), "full fine-tuning has no size to match"
    inputs = [s.in_features for s in select(find_model("digits-vit"), "all-linear") for _ in range(s.count)]
    if len(set(inputs)) == 1:
        assert rows.loc["cdka", "alignment"] == pytest.approx(math.sqrt(8 / (2 * inputs[0])))
    assert arm_figure.budget_of(made) == 9000
    assert rows.loc["cdka", "arm"] == "cdka 2,8,1"


def test_what_varies_is_in_the_label_and_nothing_else():
    made = plan("digits-vit", "digits-flip", grid="r1=1,2;r2=4;r=1;alpha=8,16", seeds=1)
    assert arm_figure.table(made)["arm"].tolist()[:2] == ["cdka 1,4,1 · alpha 8", "cdka 1,4,1 · alpha 16"]
    assert arm_figure.table(made)["arm"].is_unique


# The builder -----------------------------------------------------------------------------------------------------


def test_opens_with_a_plan_and_tells_what_it_costs(room, idle):
    app = room("sweeps")
    assert "25 runs" in texts(app)
    assert "5 arms × 5 seeds, 200 steps each" in texts(app)
    assert "about" in texts(app)
    assert app.button(key="sweep-launch").label == "Launch 25 runs"
    shown = app.dataframe[0].value.set_index("arm")["num_params"]
    counted = plan("digits-vit", "digits-flip", grid="r1=1,2,4,8;r2=4;r=1").arms
    assert [shown[f"cdka {r1},4,1"] for r1 in (1, 2, 4, 8)] == [arm.num_params for arm in counted]
    codes = [code.value for code in app.code]
    assert any(code.startswith("cdka sweep --model digits-vit") for code in codes)
    assert any("[grid]" in code for code in codes)
    assert Store().runs() == []


def test_a_launch_queues_the_runs_once_and_links_to_them(room, idle):
    app = room("sweeps", axis_r1="2")
    app.number_input(key="sweep-seeds").set_value(2).run()
    app.number_input(key="sweep-steps").set_value(5).run()
    app.button(key="sweep-launch").click().run()
    app.button(key="sweep-launch").click().run()
    assert not app.exception
    (sweep,) = Store().sweeps()
    runs = Store().runs()
    assert [(run.spec.label, run.spec.steps, run.status) for run in runs[:2]] == [
        ("cdka 2,4,1", 5, RunState.QUEUED),
        (runs[1].spec.label, 5, RunState.QUEUED),
    ]
    assert len(runs) == 4
    assert idle, "somebody was asked to work on the queue"
    assert f"0 of {len(runs)} runs done" in texts(app)
    linked = " ".join(str(link.proto) for link in app.get("page_link"))
    assert sweep.sweep_id in linked
    assert 'page: "compare"' in linked
    assert 'page: "finetune"' in linked


def test_values_that_do_not_divide_are_explained_and_left_out(room, idle):
    app = room("sweeps", axis_r1="2, 3", axis_r2="4")
    assert "r1 = 3 does not divide out_features: left out. Nearest that fit: 2 or 4." in texts(app)
    assert "left out 1 cell that does not fit" in texts(app)
    assert app.button(key="sweep-launch").label == "Launch 10 runs"


def test_a_grid_without_a_feasible_cell_says_which_constraint_kills_it(room, idle):
    app = room("sweeps", axis_r1="3")
    assert "No cell of the grid fits the model" in texts(app)
    assert "Nearest that fit: 2 or 4" in texts(app)
    assert not [button for button in app.button if button.key == "sweep-launch"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"axis_r1": "2, many"}, "r1 must be a positive integer: got 'many'. Examples: 1 or 1, 2, 4."),
        ({"axis_r": "0"}, "r must be a positive integer: got '0'."),
    ],
)
def test_values_that_are_no_dimensions_are_refused_in_place(room, idle, query, told):
    app = room("sweeps", **query)
    assert told in texts(app)
    assert app.number_input(key="sweep-seeds").value == 5, "the questions below it stay"
    assert not [button for button in app.button if button.key == "sweep-launch"]


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("sweep-lr", "fast", "The learning rate must be a positive number: got 'fast'"),
        ("sweep-lr", "", "It takes one learning rate at least: got none"),
        ("sweep-alpha", "-1", "The alpha must be a positive number: got '-1'"),
        ("sweep-budget", "ten", "A budget must be a number"),
    ],
)
def test_an_error_stands_at_its_field_and_the_form_stays(room, idle, key, text, told):
    app = room("sweeps")
    app.text_input(key=key).set_value(text).run()
    labels = [html.unescape(getattr(e, "label", "") or str(getattr(e, "value", ""))) for e in app.main]
    place = next(i for i, label in enumerate(labels) if told in label)
    field = app.text_input(key=key).label
    assert labels[place - 1] == field, labels[place - 3 : place + 1]
    assert app.text_input(key="sweep-name").value == ""
    assert not [button for button in app.button if button.key == "sweep-launch"]
    app.text_input(key=key).set_value("0.01" if key == "sweep-lr" else "8").run()
    assert [button for button in app.button if button.key == "sweep-launch"]


def test_an_empty_axis_is_refused_at_its_field_and_the_form_stays(room, idle):
    app = room("sweeps", axis_r1="2", axis_r2="4", axis_r="3")
    app.text_input(key="axis_r").set_value(" ").run()
    assert "r needs a value: got none. Examples: 1 or 1, 2, 3." in texts(app)
    assert app.number_input(key="sweep-seeds").value == 5, "the questions below it stay"
    assert not [button for button in app.button if button.key == "sweep-launch"]


def test_a_refusal_of_a_grid_names_the_arm_that_was_asked_for(room, idle):
    app = room("sweeps", axis_r1="1", axis_r2="1", axis_r="1, 512")
    assert "parameters for cdka 1,1,512" in texts(app), "not the LoRA that would be matched to it"


def test_an_axis_holds_exactly_what_was_typed(room, idle):
    app = room("sweeps", axis_r1="2", axis_r2="4")
    app.text_input(key="axis_r1").set_value("1").run()
    assert app.dataframe[0].value["arm"].tolist()[0] == "cdka 1,4,1"
    app.text_input(key="axis_r1").set_value("2;4 8,").run()
    assert app.button(key="sweep-launch").label == "Launch 20 runs", "three arms and LoRA, five seeds"


def test_equal_cells_are_merged_and_said(room, idle):
    app = room("sweeps", axis_r1="2, 02", axis_r2="4")
    assert "merged 1 duplicate cell" in texts(app)


def test_rates_are_searched_fairly_or_become_arms(room, idle):
    app = room("sweeps", axis_r1="2")
    app.text_input(key="sweep-lr").set_value("0.003, 1e-3").run()
    assert "2 arms × 5 seeds × 2 learning rates" in texts(app)
    assert app.button(key="sweep-launch").label == "Launch 20 runs"
    app.toggle(key="sweep-fair").set_value(False).run()
    assert "3 arms × 5 seeds" in texts(app)
    assert "baselines train at 0.003 only" in texts(app)


def test_equal_budget_arms_stay_within_it_and_show_the_rest(room, idle):
    app = room("sweeps", arms="Equal budget", plan_budget="lora:4")
    table = app.dataframe[0].value
    cdka = table[table["arm"].str.startswith("cdka")]
    assert len(cdka) == 4
    assert cdka["mismatch"].between(-10, 0).all()
    assert (table["mismatch"].abs() <= 10).all(), "in percent"
    assert cdka["alignment"].is_monotonic_decreasing
    assert cdka["alignment"].nunique() == 3, "as many alignments as nearly use the budget, then the next best"
    assert app.button(key="sweep-launch").label == "Launch 30 runs"
    assert any("--options 4" in code.value and "--budget lora:4" in code.value for code in app.code)
    app.text_input(key="sweep-alpha").set_value("8, 16").run()
    assert app.button(key="sweep-launch").label == "Launch 50 runs", "each option at each alpha; baselines keep one"
    assert any(code.value == "cdka sweep plan.toml --wait" for code in app.code)


def test_a_bad_budget_is_told_and_nothing_can_be_launched(room, idle):
    app = room("sweeps", arms="Equal budget", plan_budget="ten")
    assert "A budget must be a number" in texts(app)
    assert not [button for button in app.button if button.key == "sweep-launch"]


def test_a_pasted_plan_is_planned_and_its_errors_are_told(room, idle):
    app = room("sweeps", arms="Plan file")
    assert app.text_area(key="sweep-pasted").value == EXAMPLE
    assert app.button(key="sweep-launch").label == "Launch 15 runs"
    app.text_area(key="sweep-pasted").set_value(EXAMPLE.replace("seeds", "sede")).run()
    assert "Unknown key in the plan file: plan.toml, line 4, key 'sede'" in texts(app)
    assert not [button for button in app.button if button.key == "sweep-launch"]


def test_more_than_ten_thousand_runs_ask_for_a_tick(room, idle):
    app = room("sweeps", arms="Plan file")
    app.text_area(key="sweep-pasted").set_value(EXAMPLE.replace("seeds = 3", "seeds = 2001")).run()
    assert "A sweep of over 10,000 runs needs consent: got 10,005. Tick the box" in texts(app)
    assert not [button for button in app.button if button.key == "sweep-launch"]
    assert app.checkbox(key="sweep-consent").label == "Yes, up to 10,005 runs"


def test_a_job_larger_than_the_machine_is_told(room, idle, monkeypatch):
    monkeypatch.setattr("app.sweeps.plan_preview.gpus", tuple)
    told = "and this machine has"
    assert told in texts(room("sweeps", plan_model="llama-2-70b", plan_task="metamath-gsm8k"))
    small = room("sweeps", plan_model="digits-vit", plan_task="digits-flip")  # a bare address brings back the large one
    assert told not in texts(small)


def test_a_model_and_a_task_in_the_address_that_do_not_exist_are_told(room, idle):
    app = room("sweeps", plan_model="digits-vti", part="Study")
    told = " ".join(element.value for element in app.warning).replace("\\", "")  # escaped for Markdown
    assert "'digits-vit'" in told
    assert "'Studies'" in told
    assert app.selectbox(key="plan_model").value == "digits-vit"


# Launching -------------------------------------------------------------------------------------------------------


def test_a_double_click_launches_once_and_a_later_wish_again(idle, monkeypatch):
    store, launcher = Store(), launching.Launcher()
    made = plan("digits-vit", "digits-flip", grid="r1=2;r2=4;r=1", seeds=2, settings={"steps": 5})
    first = launcher.launch(store, made, "a wish")
    assert launcher.launch(store, made, "a wish") == first
    assert len(store.runs()) == 2
    assert launcher.launch(store, made, "another") != first
    assert launcher.launch(store, made, "a wish") == first, "clicks of one wish may lie around another"
    now = time.monotonic()
    monkeypatch.setattr(launching.time, "monotonic", lambda: now + 60)
    assert launcher.launch(store, made, "a wish") != first


def test_failed_runs_say_why(room, idle):
    app = room("sweeps", axis_r1="2")
    app.number_input(key="sweep-steps").set_value(5).run()
    app.button(key="sweep-launch").click().run()
    first, *_, last = Store().runs()
    with Store().database.write() as sql:
        for run, status, error in ((first, "failed", "Traceback\nMemoryError: no <b> room"), (last, "lost", "killed")):
            sql.execute("UPDATE runs SET status = ?, error = ? WHERE run_id = ?", (status, error, run.run_id))
    app.run()
    assert "MemoryError: no <b> room And 1 other reason." in texts(app)
    assert "no <b> room" not in " ".join(element.value for element in app.markdown), "escaped"


# Progress and verdicts -------------------------------------------------------------------------------------------


def test_progress_counts_steps_and_promises_a_time_only_with_a_pace():
    store = Store()
    spec = spec_for("digits-vit", "digits-flip", components=(2, 8, 1), steps=100)
    runs = [store.run(run_id) for run_id in store.submit([spec] * 4)]
    assert progress_html(progress(runs)).endswith("0 of 4 runs done · waiting</span>")
    states = (
        replace(runs[0], status="done", step=100, worked_s=20.0),
        replace(runs[1], status="running", step=50, elapsed_s=5.0),
        replace(runs[2], status="failed", step=10),
        runs[3],
    )
    found = progress(states)
    assert (found.kept, found.failed, found.at_work, found.ended) == (1, 1, 1, False)
    assert found.share == pytest.approx(250 / 400)
    assert found.remaining_s == time_left_s(states), "one time left in every room"
    assert "1 of 4 runs done · 1 failed · 1 running · 0:20 left" in progress_html(found)
    assert progress([replace(run, status="done") for run in runs]).ended


FOUND = Finding("r1", "early", SUPPORTED, "accuracy per doubling of r1", -0.0312, -0.0412, -0.0212, 3, "accuracy", "S.")


def test_an_end_of_an_interval_that_decides_is_not_rounded_to_zero():
    shown = verdict_html.effect_text(replace(FOUND, effect=0.054, ci_low=0.0049, ci_high=0.104))
    assert "interval +0.005 to +0.104" in shown
    shown = verdict_html.effect_text(replace(FOUND, effect=-0.001, ci_low=-0.16, ci_high=0.16))
    assert "<b>+0.00</b>" in shown, "no minus before a zero"


@pytest.mark.parametrize(
    ("finding", "told"),
    [
        (FOUND, ("▲ supported", "<b>-0.031</b>, 95\u00a0% interval -0.041 to -0.021, 3 seeds")),
        (
            replace(FOUND, verdict=CONTRADICTED, effect=0.2, ci_low=0.05, ci_high=0.35),
            ("▼ contradicted", "<b>+0.20</b>, 95\u00a0% interval +0.05 to +0.35"),
        ),
        (
            replace(FOUND, verdict=UNRESOLVED, effect=0.01, ci_low=None, ci_high=None, n=1),
            ("○ not resolved", "(1 seed, no interval)"),
        ),
        (replace(FOUND, n=5, counted="base model"), ("interval -0.041 to -0.021, 5 base models",)),
        (replace(FOUND, ci_low=None, ci_high=None), ("(3 seeds, no interval)",)),
        (
            replace(
                FOUND,
                verdict=UNRESOLVED,
                effect=None,
                ci_low=None,
                ci_high=None,
                n=0,
                sentence="C. Not resolved in the early regime: 3 runs are still to come.",
            ),
            ("○ not resolved", "3 runs are still to come."),
        ),
    ],
)
def test_a_verdict_has_symbol_word_effect_interval_and_seeds(finding, told):
    shown = verdict_html.verdicts_html([finding])
    for text in told:
        assert text in shown


def test_the_interval_is_drawn_to_scale_around_zero():
    svg = verdict_html.interval_svg(FOUND, reach=0.0412)
    assert 'x1="6.0"' in svg, "the far end reaches 92 % of the half width"
    assert f'cx="{75 - 69 * 0.0312 / 0.0412:.1f}"' in svg


# The studies -----------------------------------------------------------------------------------------------------


def test_every_study_has_a_card_with_its_claim_and_what_it_costs(room, idle):
    from cdka.claims import STUDIES

    app = room("sweeps", part="Studies")
    for study in STUDIES.values():
        assert study.title.split("?")[0] in texts(app)
    assert "50 runs in" in texts(app)
    assert "400 runs in" in texts(app), "studies over base models keep their own number of seeds"
    assert "(120 steps, lr 0.002, alpha 8)" in texts(app)
    assert "Not with this model: study 'long-context' needs a model with more than 8,192 positions" in texts(app)
    assert "Choose another above and a language task." in texts(app)
    keys = {button.key for button in app.button}
    assert "run-r1" in keys
    assert "run-long-context" not in keys


def test_one_click_runs_a_study_and_the_card_follows_it(room, idle):
    app = room("sweeps", part="Studies")
    app.number_input(key="study-seeds").set_value(2).run()
    app.button(key="run-r").click().run()
    assert not app.exception
    (sweep,) = Store().sweeps()
    assert sweep.plan["study"] == "r"
    assert sum(sweep.counts.values()) == 16
    assert "0 of 16 runs done · waiting" in texts(app)
    app.button(key="cancel-r").click().run()
    assert Store().sweep(sweep.sweep_id).counts == {"cancelled": 16}
    assert "○ not resolved" in texts(app)
    assert "it needs at least two seeds with every arm" in texts(app)


def test_finished_studies_show_the_verdicts_of_their_runs(room, idle, monkeypatch, tmp_path):
    """Accuracies written into the store by hand: falling with r1 in every seed, so the claim must be supported."""
    monkeypatch.setattr("app.sweeps.shipped_studies.assets_dir", lambda: tmp_path)
    store = Store()
    from cdka.claims import STUDIES, plan_study

    planned = plan_study(STUDIES["r1"], seeds=3)
    sweep_id = store.create_sweep(planned.name, planned.document, planned.specs)
    with store.database.write() as sql:
        for run in store.runs(sweep_id=sweep_id):
            drop = (0.05 + 0.001 * run.spec.seed) * math.log2(run.spec.components.r1)
            sql.execute(
                "UPDATE runs SET status = 'done', num_params = 1, metrics = ? WHERE run_id = ?",
                (f'{{"test/accuracy": {0.9 - drop}}}', run.run_id),
            )
    app = room("sweeps", part="Studies")
    assert texts(app).count("▲ supported") == 2
    told = "accuracy per doubling of r1: <b>-0.051</b>, 95\u00a0% interval -0.053 to -0.049, 3 seeds"
    assert texts(app).count(told) == 2, "slopes of -0.050, -0.051 and -0.052: t with 2 degrees of freedom, 4.303"
    assert app.get("download_button")


SHIPPED = {
    "format": 1,
    "name": "trends",
    "metric": "accuracy",
    "model": "digits-vit",
    "task": "digits-flip",
    "seeds": [0, 1, 2],
    "runs": 30,
    "date": "2026-01-31",
    "seconds": 9.0,
    "machine": "a machine",
    "versions": {"torch": "9.9"},
    "studies": [{"study": "r1", "regimes": {}, "findings": [FOUND.to_dict()]}],
}


def test_a_shipped_report_is_an_example_until_there_are_own_runs(room, idle, tmp_path, monkeypatch):
    folder = tmp_path / "assets" / "studies"
    folder.mkdir(parents=True)
    (folder / "trends.md").write_text("# What was found: here\n\n![a figure](trends-r1.svg)\n\nA table.\n", "utf-8")
    (folder / "trends-r1.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' class='study-figure'></svg>")
    (folder / "trends.json").write_text(json.dumps(SHIPPED))
    monkeypatch.setattr("app.sweeps.shipped_studies.assets_dir", lambda: tmp_path / "assets")
    app = room("sweeps", part="Studies")
    asked = app.selectbox(key="shipped-report")
    assert asked.options == ["Does a larger r1 hurt? · digits-vit on digits-flip, 3 seeds"]
    assert "A table." not in texts(app)
    app = asked.select_index(0).run()
    assert "A table." in texts(app)
    assert "![" not in texts(app), "the figure is drawn, not linked to"
    assert "Shipped example, not your runs: 30 runs, 3 seeds, 2026-01-31" in plain(app)
    assert "30 runs, 3 seeds, 2026-01-31, torch 9.9, a machine" in texts(app)
    assert "▲ supported" in texts(app)
    app.button(key="run-r1").click().run()
    assert "Shipped example" not in plain(app), "own runs take its place"
    assert "Shipped example" not in plain(room("sweeps", part="Studies", plan_task="digits")), "another task"


def test_the_report_of_own_studies_is_a_zip_with_figures(home):
    from cdka.claims import STUDIES, plan_study

    store = Store()
    planned = plan_study(STUDIES["r"], seeds=2)
    sweep_id = store.create_sweep(planned.name, planned.document, planned.specs)
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET status = 'done', num_params = 1, metrics = '{\"test/accuracy\": 0.5}'")
    packed = study_cards._zipped([store.sweep(sweep_id)])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["studies-r.svg", "studies.json", "studies.md"]
