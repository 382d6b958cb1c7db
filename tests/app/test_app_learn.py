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

from app.learn import progress
from app.learn.chapters import CHAPTERS
from app.learn.contest import arms as contest_arms
from app.learn.contest import figures as contest_figures
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
    assert progress.load().of(chapter).pages == {number}


def test_the_url_sets_controls_and_figure(room):
    app = room("learn", chapter="2", page="3", c2_r1="4", c2_r2="8", c2_r="2", seed="5")
    assert control(app, "c2_r1").value == 4
    assert "rank <b>48</b> of 48" in texts(app)
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["layout"]["title"]["text"] == "ΔW uses 48 of 48 directions"


def test_moving_a_control_moves_the_figure(room):
    app = room("learn", chapter="2", page="3")
    assert "rank <b>4</b> of 48" in texts(app)
    control(app, "c2_r1").set_value(8).run()
    assert "rank <b>32</b> of 48" in texts(app)
    control(app, "c2_r2").set_value(2).run()
    assert "rank <b>48</b> of 48" in texts(app)


def test_a_matrix_in_the_url_is_shown(room):
    app = room("learn", chapter="1", c1_B="1,2;1,2")
    assert "Rank <b>1</b> times rank <b>2</b> makes rank <b>2</b>" in texts(app)


def test_the_board_names_blocks_and_tells_how_the_picked_cell_is_made(room):
    app = room("learn", chapter="1", c1_B="1,2;0,-1", c1_A="1,0,2;3,1,-1", c1_pick="3,3")
    board = json.loads(app.get("bidi_component")[0].proto.json)
    (_, _, _, note), (_, blocks, _, product) = board["lines"]
    assert [[cell["t"] for cell in row] for row in blocks["cells"]] == [["1 · A", "2 · A"], ["0 · A", "−1 · A"]]
    assert note["text"].splitlines() == ["Picked: row 4, column 4", "block of b₂₂, place of a₂₁", "−1 · 3 = −3"]
    assert product["cells"][3][3]["links"] == ["B:1:1", "S:1:1", "A:1:0"]


def test_steps_not_yet_taken_are_covered(room):
    for step, visible in (("x", 0), ("X Aᵀ", 2), ("y", 5)):
        board = json.loads(
            room("learn", chapter="1", page="3", c1_step=step).get("bidi_component")[0].proto.json
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
    assert "One small matrix" in texts(app)


def test_a_page_beyond_the_last_is_the_last(room):
    assert "## Predict" in texts(room("learn", chapter="2", page="5"))
    assert not room("learn", chapter="2", page="77").exception


def test_a_right_prediction_scores_three_and_is_kept(room):
    app = room("learn", chapter="2", page="5", seed="4")
    answer = CHAPTERS[1].ask(4, {}).answer()
    reveal = next(button for button in app.button if button.label == "Reveal")
    assert reveal.disabled, "nothing to reveal before a prediction"
    guess = next(w for w in app.number_input if w.label == "Your prediction")
    guess.set_value(answer).run()
    press(app, "Reveal")
    assert "exactly right" in texts(app)
    assert progress.load().of(2).best == 3
    app.run()
    assert progress.load().of(2).tries == 1, "looking again must not count again"
    press(app, "Another question")
    assert app.session_state["seed"] == 5
    assert any(w.label == "Your prediction" for w in app.number_input)


def test_a_prediction_out_of_range_says_why_it_is_not_taken(room):
    app = room("learn", chapter="2", page="5")
    guess = next(w for w in app.number_input if w.label == "Your prediction")
    guess.set_value(9999.0).run()
    assert "the answer lies between 1 and 3,072: got 9,999. Type a number in that range." in texts(app)
    assert next(button for button in app.button if button.label == "Reveal").disabled
    guess.set_value(12.0).run()
    assert "Type a number in that range" not in texts(app)
    assert not next(button for button in app.button if button.label == "Reveal").disabled


def test_statements_carry_their_source_and_the_page_lists_it(room):
    app = room("learn", chapter="4", page="3")
    shown = texts(app)
    assert 'title="textbook: the mean of a random projection">textbook</span>' in shown
    assert "- **textbook**: the mean of a random projection." in shown
    assert "- *ours* means our own derivation or measurement; the code of this page makes it." in shown


def test_the_answer_is_not_on_the_page_before_the_reveal(room):
    app = room("learn", chapter="2", page="5", seed="4")
    assert "rank <b>?</b>" in texts(app)
    assert not app.get("plotly_chart")
    app = room("learn", chapter="4", page="6")
    assert "best</td>" not in texts(app)
    app = room("learn", chapter="1", page="5")
    board = json.loads(app.get("bidi_component")[0].proto.json)
    (product,) = (item for line in board["lines"] for item in line if item.get("id") == "K")
    assert {(cell["t"], cell["v"], cell["w"]) for row in product["cells"] for cell in row} == {("?", 0.0, 0)}


def test_a_teachers_link_hides_controls(room):
    app = room("learn", chapter="2", page="3", c2_r1="4", c2_r2="4", hide="controls")
    assert not app.select_slider
    assert "rank <b>48</b> of 48" in texts(app), "the figure still shows what the link says"
    assert not any(button.key.startswith("try-") for button in app.button if button.key)


def test_a_teachers_link_hides_the_solution(room):
    app = room("learn", chapter="2", page="5", hide="solution")
    next(w for w in app.number_input if w.label == "Your prediction").set_value(12.0).run()
    press(app, "Keep my prediction")
    assert "Your prediction is kept: <b>12" in texts(app) or "Your prediction is kept: **12" in texts(app)
    assert "of 3" not in texts(app)
    assert "rank <b>?</b>" in texts(app)
    assert progress.load().of(2).best is None


def test_buttons_in_the_text_set_the_controls(room):
    app = room("learn", chapter="3", page="3")
    press(app, "4, 16")
    assert (control(app, "c3_r1").value, control(app, "c3_r2").value) == (4, 16)


def test_a_design_over_budget_is_refused_with_a_way_out(room):
    app = room("learn", chapter="6", c6_budget="lora:1", c6_r1="1", c6_r2="8", c6_r="4")
    assert not app.exception
    assert "must cost at most 7,168 parameters" in texts(app)
    app = room("learn", chapter="6", page="4", c6_budget="lora:1", c6_r1="1", c6_r2="8", c6_r="4")
    assert "must cost at most 7,168 parameters" in texts(app)


def test_the_contest_is_submitted_once_as_ordinary_runs(room, monkeypatch):
    from app import data
    from app.learn import live

    monkeypatch.setattr(live, "ensure_dispatcher", lambda store: False)
    app = room("learn", chapter="6", page="4", c6_r1="2", c6_r2="2", c6_r="2")
    next(w for w in app.radio if w.label == "Your prediction").set_value("LoRA").run()
    press(app, "Train and reveal")
    runs = data.store().runs()
    assert [run.spec.label for run in runs][::2] == ["cdka 2,2,2", "lora 2"]
    packs = [run.pack_id for run in runs]
    assert packs[0] == packs[1] != packs[2], "a pack holds one kind of adapter"
    assert "The runs will tell" in texts(app)
    live.start([run.spec for run in runs])
    assert len(data.store().runs()) == 3, "what is queued already is not submitted again"


def test_the_leaderboard_tells_whose_and_marks_the_present_design(room):
    from app import data

    app = room("learn", chapter="6", page="3")
    assert "Nothing has been trained under this budget yet" in texts(app)
    mine, best, lora = (arm.spec for arm in contest_arms.arms("lora:2", Components(2, 2, 2), seed=0))
    fill(data.store(), "contest", [mine, best, lora, mine.with_(steps=99)], adapters=False)
    found = {
        run.spec.label: f"{run.metrics['test/accuracy']:.3f}" for run in data.store().runs() if run.spec.steps == 100
    }
    app = room("learn", chapter="6", page="3", c6_r1="2", c6_r2="2", c6_r="2")
    table = next(value for value in (m.value for m in app.markdown) if "What was tried" in value)
    rows = re.findall(r"<tr><td>(\d)</td><td>(.*?)</td>.*?<b>([\d.]+)</b><i", table)
    assert len(rows) == 3, "the run of 99 steps is no contestant"
    whose = {name: accuracy for _, name, accuracy in rows}
    assert whose == {"Mine": found[mine.label], "The solver's": found[best.label], "LoRA": found[lora.label]}
    assert [accuracy for _, _, accuracy in rows] == sorted(whose.values(), reverse=True)
    assert table.count("your present design") == 1


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
    assert "unknown term" in texts(app)
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
