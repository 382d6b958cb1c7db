"""The Learn room as Streamlit's test runner sees it: every page draws, the URL is heard, predictions are scored."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))
from compare_store import fill

from app.learn import progress, sheet
from app.learn.chapters import CHAPTERS
from app.learn.contest import arms as contest_arms
from app.learn.contest import figures as contest_figures
from app.learn.press.press import directions
from cdka.components import Components

EVERY = [(c.number, page) for c in CHAPTERS for page in range(1, c.num_pages + 1)]


def texts(app):
    return " ".join(element.value for element in app.markdown)


def control(app, key):
    return next(
        w
        for kind in ("select_slider", "button_group", "selectbox", "number_input")
        for w in app.get(kind)
        if w.key == key
    )


def press(app, label):
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception, app.exception[0].message


@pytest.mark.parametrize(("chapter", "number"), EVERY)
def test_every_page_draws(room, chapter, number):
    app = room("learn", chapter=str(chapter), page=str(number), numbers="true")
    assert not app.error
    last = number == CHAPTERS[chapter - 1].num_pages
    title = "Predict" if last else CHAPTERS[chapter - 1].pages[number - 1].title
    assert f"## {title}" in texts(app)
    assert not app.latex, "a displayed formula scrolls in a narrow column, out of the keyboard's reach"
    assert "$$" not in texts(app)
    assert progress.load().of(chapter).pages == {number}


def test_the_url_sets_controls_and_figure(room):
    app = room("learn", chapter="2", page="3", c2_r1="4", c2_r2="8", c2_r="2", seed="5")
    assert control(app, "c2_r1").value == 4
    assert "rank <b>48</b> of 48" in texts(app)
    assert "ΔW uses 48 of 48 directions" in texts(app)


def test_moving_a_control_moves_the_figure(room):
    app = room("learn", chapter="2", page="3")
    assert "rank <b>4</b> of 48" in texts(app)
    control(app, "c2_r1").set_value(8).run()
    assert "rank <b>32</b> of 48" in texts(app)
    control(app, "c2_r2").set_value(2).run()
    assert "rank <b>48</b> of 48" in texts(app)


def test_a_matrix_in_the_url_is_shown(room):
    app = room("learn", chapter="1", page="2", c1_B="1,2;1,2")
    assert "Rank <b>1</b> times rank <b>2</b> makes rank <b>2</b>" in texts(app)


def test_the_board_names_blocks_and_tells_how_the_picked_cell_is_made(room):
    app = room("learn", chapter="1", page="2", c1_B="1,2;0,-1", c1_A="1,0,2;3,1,-1", c1_pick="3,3")
    board = json.loads(app.get("bidi_component")[0].proto.json)
    (_, _, _, note), (_, blocks, _, product) = board["lines"]
    assert [[cell["t"] for cell in row] for row in blocks["cells"]] == [["1 · A", "2 · A"], ["0 · A", "−1 · A"]]
    assert note["text"].splitlines() == ["Picked: row 4, column 4", "block of b₂₂, place of a₂₁", "−1 · 3 = −3"]
    assert product["cells"][3][3]["links"] == ["B:1:1", "S:1:1", "A:1:0"]


def test_steps_not_yet_taken_are_covered(room):
    for step, visible in (("x", 0), ("X Aᵀ", 2), ("y", 5)):
        board = json.loads(
            room("learn", chapter="1", page="5", c1_step=step).get("bidi_component")[0].proto.json
        )  # fmt: skip
        later = [item for line in board["lines"][1:] for item in line if item["kind"] == "matrix" and not item["edit"]]
        assert len(later) == 5
        shown = [item for item in later if all(cell["t"] != "?" for row in item["cells"] for cell in row)]
        assert len(shown) == visible


def test_a_wrong_address_is_told_and_does_no_harm(room):
    app = room("learn", chapter="9", c1_B="1", hide="everything")
    told = " ".join(w.value for w in app.warning)
    assert "unknown chapter '9'" in told
    assert "B must be 2 rows of 2 numbers" in told
    assert "unknown thing to hide 'everything'" in told
    assert "Why not train" in texts(app)


def test_a_page_beyond_the_last_is_the_last(room):
    assert "## Predict" in texts(room("learn", chapter="2", page="6"))
    assert not room("learn", chapter="2", page="77").exception


def guess(app, value):
    """Type a prediction and press the button once: the form takes both together."""
    field = next((w for w in app.number_input if w.label.startswith("Your prediction")), None)
    if field is None:
        field = next(w for w in app.radio if w.label == "Your prediction")
    field.set_value(value)
    button = next(b for b in app.button if b.label in ("Reveal", "Train and reveal", "Keep my prediction"))
    button.click().run()
    assert not app.exception, app.exception[0].message


def test_a_right_prediction_scores_three_with_one_click_and_is_kept(room):
    app = room("learn", chapter="2", page="6", seed="4")
    guess(app, CHAPTERS[1].question(4, {}).answer())
    assert "3 of 3" in texts(app)
    assert progress.load().of(2).best == 3
    app.run()
    assert progress.load().of(2).tries == 1, "looking again must not count again"
    again = room("learn", chapter="2", page="6", seed="4")
    assert "3 of 3" in texts(again), "a reload shows the verdict instead of asking once more"
    press(again, "Another question")
    assert again.session_state["seed"] == 5
    assert any(w.label == "Your prediction" for w in again.number_input)


def test_a_wrong_prediction_meets_a_hint_and_a_second_try(room):
    seed = next(s for s in range(20) if CHAPTERS[1].question(s, {}).draw["r"] > 1)
    app = room("learn", chapter="2", page="6", seed=str(seed))
    question = CHAPTERS[1].question(seed, {})
    guess(app, float(question.draw["r"]))
    assert "Try once more" in texts(app)
    assert "counts the components only" in texts(app)
    assert "rank <b>?</b>" in texts(app), "the solution stays covered"
    assert progress.load().of(2).best is None
    guess(app, question.answer())
    assert "2 of 3" in texts(app), "a second try earns at most two"


def test_the_solution_can_be_asked_for_before_the_second_try(room):
    app = room("learn", chapter="2", page="6", seed="4")
    guess(app, 3072.0)
    press(app, "Show the solution")
    assert "0 of 3" in texts(app)
    assert "rank <b>?</b>" not in texts(app)


def test_reveal_without_a_prediction_asks_for_one(room):
    app = room("learn", chapter="2", page="6")
    next(b for b in app.button if b.label == "Reveal").click().run()
    assert "Make a prediction first: type a number." in texts(app)
    assert progress.load().of(2).tries == 0


def test_a_prediction_out_of_range_says_why_it_is_not_taken(room):
    app = room("learn", chapter="2", page="6")
    guess(app, 9999.0)
    assert "The answer lies between 1 and 3,072: got 9,999. Type a number in that range." in texts(app)
    assert progress.load().predictions == {}
    guess(app, 12.0)
    assert "Type a number in that range" not in texts(app)
    assert len(progress.load().predictions) == 1


def test_statements_carry_their_source_and_the_page_lists_it(room):
    app = room("learn", chapter="4", page="5")
    shown = texts(app)
    assert 'aria-label="textbook: the mean of a random projection">textbook</span>' in shown
    assert "- **textbook**: the mean of a random projection." in shown
    assert "- *ours* means our own derivation or measurement; each mark names what makes it." in shown


def test_the_answer_is_not_on_the_page_before_the_reveal(room):
    app = room("learn", chapter="2", page="6", seed="4")
    assert "rank <b>?</b>" in texts(app)
    assert not app.get("plotly_chart")
    app = room("learn", chapter="4", page="8")
    assert "best</td>" not in texts(app)
    app = room("learn", chapter="1", page="7")
    board = json.loads(app.get("bidi_component")[0].proto.json)
    (product,) = (item for line in board["lines"] for item in line if item.get("id") == "K")
    assert {(cell["t"], cell["v"], cell["w"]) for row in product["cells"] for cell in row} == {("?", 0.0, 0)}


def test_a_teachers_link_hides_controls(room):
    app = room("learn", chapter="2", page="3", c2_r1="4", c2_r2="4", hide="controls")
    assert not app.select_slider
    assert "rank <b>48</b> of 48" in texts(app), "the figure still shows what the link says"
    assert not any(button.key.startswith("try-") for button in app.button if button.key)


def test_a_teachers_link_hides_the_solution(room):
    app = room("learn", chapter="2", page="6", hide="solution")
    guess(app, 12.0)
    assert "Your prediction is kept: **12" in texts(app)
    assert "of 3" not in texts(app)
    assert "rank <b>?</b>" in texts(app)
    assert progress.load().of(2).best is None


def test_buttons_in_the_text_set_the_controls(room):
    app = room("learn", chapter="3", page="3")
    press(app, "4, 16")
    assert (control(app, "c3_r1").value, control(app, "c3_r2").value) == (4, 16)


def test_a_design_over_budget_is_refused_with_a_way_out(room):
    over = {"c6_budget": "lora:1", "c6_r1": "1", "c6_r2": "8", "c6_r": "4"}
    app = room("learn", chapter="6", **over)
    assert not app.exception
    assert "must cost at most 7,168 parameters" in texts(app)
    app = room("learn", chapter="6", page="5", **over)
    assert "must cost at most 7,168 parameters" in texts(app)


def test_a_bet_on_a_twin_that_there_is_not_is_refused(room):
    app = room("learn", chapter="6", page="5", c6_r1="4", c6_r2="4", c6_r="1")
    assert "A bet against the twin needs r1 other than r2" in texts(app)


def test_the_contest_is_submitted_once_as_ordinary_runs_in_one_pack_and_survives_a_reload(room, monkeypatch):
    from app import data
    from app.learn import live

    monkeypatch.setattr(live, "ensure_dispatcher", lambda store: False)
    app = room("learn", chapter="6", page="5")
    guess(app, 2.5)
    runs = data.store().runs()
    assert len(runs) == 15
    assert {run.spec.label for run in runs} == {"cdka 8,16,3", "cdka 16,8,3", "cdka 1,1,4"}
    assert len({run.pack_id for run in runs}) == 1
    assert "The runs will decide" in texts(app)
    live.start([run.spec for run in runs])
    assert len(data.store().runs()) == 15, "what is queued already is not submitted again"
    again = room("learn", chapter="6", page="5")
    assert "You predicted <b>2.5 points</b>" in texts(again), "the bet is remembered over a reload"


def contest_done(values=None):
    """The runs of a contest in the store, finished."""
    from app import data

    arms = contest_arms.contest("lora:4", Components(8, 16, 3), 0)
    specs = [spec for arm in arms for spec in arm.specs]
    fill(data.store(), "contest", specs, adapters=False)
    return arms


def test_a_bet_is_scored_once_the_runs_are_done_and_stands_on_the_scoreboard(room):
    contest_done()
    app = room("learn", chapter="6", page="5", learner="Ada")
    guess(app, 50.0)
    told = texts(app)
    assert "Your design minus its twin" in told
    assert "95 % interval" in told
    kept = progress.load("Ada").predictions[6, 0, "lora:4|8,16,3|Its twin"]
    assert kept.points is not None
    board = room("learn", chapter="class")
    assert "<td>Ada</td>" in texts(board)
    assert "8,16,3 against its twin (lora:4)" in texts(board)
    assert progress.load().predictions == {}, "kept under the learner's name alone"


def test_the_leaderboard_shows_means_over_seeds_and_marks_the_present_design(room):
    app = room("learn", chapter="6", page="4")
    assert "Nothing has been trained under this budget yet" in texts(app)
    contest_done()
    app = room("learn", chapter="6", page="4")
    table = next(value for value in (m.value for m in app.markdown) if "What was tried" in value)
    rows = re.findall(r"<tr><td>(\d)</td><td>.*?<td>(\d)</td>\s*<td class=\"learn-score\"><b>([\d.]+)</b>", table)
    assert len(rows) == 5, "two designs, and LoRA at three rates"
    assert {seeds for _, seeds, _ in rows} == {"3"}
    assert [score for _, _, score in rows] == sorted((score for _, _, score in rows), reverse=True)
    assert table.count("your present design") == 1


@pytest.mark.parametrize(("chapter", "page", "key"), [(5, 4, "c5"), (6, 3, "c6")])
def test_a_tiny_training_steps_and_starts_again_when_a_setting_changes(room, chapter, page, key):
    app = room("learn", chapter=str(chapter), page=str(page))
    assert "step <b>0</b>" in texts(app)
    press(app, "Step")
    assert "step <b>1</b>" in texts(app)
    press(app, "Step")
    state = app.session_state[f"{key}-player"]
    assert all(len(training.losses) == 2 for _, training in state["arms"])
    control(app, "c5_toy_lr" if chapter == 5 else "c6_r2").set_value("0.03" if chapter == 5 else 4).run()
    assert not app.exception
    assert "step <b>0</b>" in texts(app)


def test_the_press_gets_its_numbers_from_the_library(room):
    app = room("learn", chapter="4", page="3", c4_p1="2", c4_p2="4", c4_pr="2")
    data = json.loads(app.get("bidi_component")[0].proto.json)
    assert (data["mode"], data["r1"], data["r2"], data["r"]) == ("press", 2, 4, 2)
    found = directions(Components(2, 4, 2))
    assert data["caught"] == pytest.approx(found.caught_best, abs=1e-4)
    assert data["darts"] == pytest.approx(found.darts, abs=1e-4)
    assert len(data["best"]) == len(data["random"]) == 2


def test_next_and_back_walk_through_the_course_and_the_route(room):
    app = room("learn", chapter="1", page="6")
    press(app, "Predict")
    assert app.query_params["page"] == "7"
    press(app, "Next chapter")
    assert (app.query_params["chapter"], app.query_params["page"]) == ("2", "1")
    press(app, "Back")
    assert (app.query_params["chapter"], app.query_params["page"]) == ("1", "7")
    app = room("learn", chapter="1", page="4", route="30")
    assert "4 of 14 on the 30-minute route" in texts(app)
    press(app, "Next")
    assert (app.query_params["chapter"], app.query_params["page"]) == ("2", "1")


def test_a_page_reached_with_back_takes_its_controls_from_the_address(room):
    app = room("learn", chapter="2", page="3")
    control(app, "c2_r1").set_value(8).run()
    press(app, "Next")
    app.query_params["page"] = "3"  # what Back leaves: the address of then
    app.query_params["c2_r1"] = "2"
    app.run()
    assert control(app, "c2_r1").value == 2
    assert "rank <b>8</b> of 48" in texts(app)


def test_a_presentation_shows_one_idea_and_no_menu(room):
    app = room("learn", chapter="1", page="2", present="1")
    shown = texts(app)
    assert "Each entry of" in shown
    assert "Take two small matrices" not in shown
    assert not app.get("download_button")
    press(app, "Leave presentation")
    assert "Take two small matrices" in texts(app)


def test_the_class_page_has_addresses_and_a_code_where_others_can_reach_the_server(room, monkeypatch):
    from app.learn import classroom

    monkeypatch.setattr(classroom, "addresses", lambda: [])
    assert "--host 0.0.0.0" in texts(room("learn", chapter="class"))
    monkeypatch.setattr(classroom, "addresses", lambda: ["http://192.168.7.9:8501"])
    shown = texts(room("learn", chapter="class"))
    assert "http://192.168.7.9:8501/learn?chapter=1&amp;page=1&amp;route=30" in shown
    assert "<svg" in shown


def test_the_addresses_for_a_class_leave_the_loopback_out(monkeypatch):
    from app.learn import classroom

    settings = {"server.address": "127.0.0.1", "server.port": 8501}
    monkeypatch.setattr(classroom.st, "get_option", settings.get)
    assert classroom.addresses() == []
    settings["server.address"] = "192.168.1.20"
    assert classroom.addresses() == ["http://192.168.1.20:8501"]
    settings["server.address"] = "0.0.0.0"
    assert not any("127." in address for address in classroom.addresses())
    assert classroom.qr_svg("http://192.168.1.20:8501/learn").startswith("<svg")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_sheet_prints_without_the_app_and_keeps_the_solutions_apart(home, chapter):
    values = {**chapter.defaults, "seed": 0}
    questions = sheet.build(chapter, values, solutions=False)
    solutions = sheet.build(chapter, values, solutions=True)
    for page in (questions, solutions):
        assert page.startswith("<!doctype html>")
        assert "$" not in re.sub(r"<style>.*?</style>", "", page)
        assert not re.search(r"https?://(?!www\.w3\.org)", page), "it needs no network"
        assert "Try:" not in page
    assert questions.count("<section>") == len(chapter.pages)
    question = chapter.question(0, values)
    if question.begin is None:
        answer = question.answer()
        assert f"<b>{answer if isinstance(answer, str) else f'{answer:g}'}" in solutions
        assert "Measured:" not in questions


def test_the_digits_of_the_task_are_those_the_runs_train_on(home):
    from cdka.tasks import digits
    from cdka.tasks.catalogue import find_task

    rows = digits.samples(3)
    assert rows["label"].tolist() == list(range(10))
    flipped = digits.read(find_task("digits-flip")).splits["train"]
    places = [list(flipped.ids).index(i) for i in rows.index]
    shown = digits.shift(digits.images(rows))
    assert np.allclose(flipped.pixels[places, 0], 2 * shown - 1, atol=1e-6)
    strip = contest_figures.strip_svg(np.array([[[0.0, 0.0, 1.0]]]), "three")
    assert 'width="2" height="1" fill="#000"' in strip
    assert 'x="2" y="0" width="1" height="1" fill="#fff"' in strip


def test_the_glossary_page(room):
    app = room("learn", chapter="glossary", term="R(G)")
    assert "learn-asked" in texts(app)
    app = room("learn", chapter="glossary", term="nonsense")
    assert "Unknown term" in texts(app)
    assert not app.exception


def test_no_torch_for_the_course(home):
    """The course must not pull torch into the server; the probe itself can fail."""
    visit = (
        "from streamlit.testing.v1 import AppTest\nfrom app.learn.chapters import CHAPTERS\n"
        "for c in CHAPTERS:\n    for page in (1, c.num_pages - 1, c.num_pages):\n"
        "        app = AppTest.from_file('app/views/learn.py', default_timeout=60)\n"
        "        app.query_params['chapter'], app.query_params['page'] = str(c.number), str(page)\n        app.run()\n"
        "        assert not app.exception, app.exception[0].message\n"
    )
    look = "import sys\nprint(sorted({'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)))"
    for code, expected in ((visit, "[]"), ("import torch\n", "['torch']")):
        out = subprocess.run([sys.executable, "-c", code + look], capture_output=True, text=True, timeout=120)
        assert out.returncode == 0, out.stderr[-2000:]
        assert out.stdout.strip().splitlines()[-1] == expected
