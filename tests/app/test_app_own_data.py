"""Your own data in the Fine-tune room: named, mapped, shown and ordered; what is bad is told in place."""

from __future__ import annotations

import json

import pytest

from cdka.runs.store import Store


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    for module in ("app.finetune.live_panel", "app.finetune.actions", "cdka.engine.local"):
        monkeypatch.setattr(f"{module}.ensure_dispatcher", lambda store: True)


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"{a}+{b}=", "says": str(a + b), "part": "train"} for a in range(10) for b in range(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def said(app) -> str:
    return " ".join(element.value for element in app.markdown)


def by_label(app, kind, label):
    return next(element for element in getattr(app, kind) if element.label == label)


def test_data_are_named_mapped_previewed_and_ordered(room, sums):
    app = room("finetune", on="math-lm", task="local-instruct")
    assert "Name your data to go on" in said(app)
    assert "the form is not complete" in said(app)
    app.text_input(key="data-path").set_value(str(sums)).run()
    assert by_label(app, "selectbox", "Instruction").value == "question"  # by its name
    by_label(app, "selectbox", "Answer").set_value("says").run()
    assert not app.exception
    assert "Your data: 52 train, 12 validation, 16 test" in said(app)
    assert "The first training example, as the model gets it" in said(app)
    assert "split at random with seed 0" in said(app)
    app.number_input(key="data-seed").set_value(5).run()
    assert "split at random with seed 5" in said(app)
    app.button(key="launch").click().run()
    assert not app.exception
    options = Store().runs()[0].spec.task_options
    assert (options["prompt_column"], options["answer_column"], options["split_seed"]) == ("question", "says", 5)
    assert options["data"] == str(sums)
    assert len(options["sha256"]) == 64


def test_the_tokens_and_the_mask_are_shown_on_demand_with_what_is_cut(room, sums, monkeypatch):
    asked = []

    def view(spec, **_):
        asked.append(spec)
        return {
            "kind": "causal-lm",
            "max_length": 3,
            "labels": [],
            "notes": ["60% of the tokens are unknown to it"],
            "batch": [{"tokens": ["<bos>", "1<", "2"], "judged": [False, False, True]}],
            "lengths": {"train": [3, 4, 9]},
            "longer": {"train": 2, "validation": 0, "test": 1},
        }

    monkeypatch.setattr("app.owndata.preview.token_preview", view)
    app = room("finetune", on="math-lm", task="local-instruct")
    app.text_input(key="data-path").set_value(str(sums)).run()
    by_label(app, "selectbox", "Answer").set_value("says").run()
    assert not asked
    app.button(key="data-show-tokens").click().run()
    assert not app.exception
    assert "&lt;bos&gt;1&lt;<b>2</b>" in said(app)
    assert "Longer than 3 tokens, and cut: 3 examples, 2 train, 1 test" in said(app)
    assert "unknown to it" in said(app)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\na,b\nc\n", "line 3: 1 field where the first line names 2"),
        ("text,label\na,x\nb,x\nc,x\n", "holds one label only"),
        (None, "data file must exist"),
    ],
)
def test_bad_data_are_told_in_place(room, tmp_path, content, words):
    path = tmp_path / "d.csv"
    if content is not None:
        path.write_text(content)
    app = room("finetune", on="bert-base", task="local-classify")
    app.text_input(key="data-path").set_value(str(path)).run()
    assert not app.exception
    assert words in said(app)


def test_only_tasks_that_the_model_can_do_are_offered(room):
    def offered(model: str) -> set[str]:
        app = room("finetune", on=model)
        found = set(app.selectbox(key="task").options)
        app.button_group(key="task-data").set_value("Your own file").run()
        return found | set(app.selectbox(key="task").options)

    assert {"digits-flip", "local-images"} <= offered("digits-vit")
    assert not {"local-instruct", "glue-sst2"} & offered("digits-vit")
    assert {"local-instruct", "local-classify", "math-chain"} <= offered("math-lm")
    assert "local-instruct" not in offered("bert-base")
    assert "local-images" not in offered("bert-base")


def test_a_file_of_ones_own_is_swept_and_keeps_its_place_in_the_address(room, sums):
    app = room("sweeps", plan_model="math-lm", plan_task="local-instruct", **{"data-path": str(sums)})
    assert by_label(app, "selectbox", "Instruction").value == "question", "the address names the file"
    assert not app.exception
    app.button(key="sweep-launch").click().run()
    assert not app.exception
    runs = Store().runs()
    assert runs
    assert {run.spec.task for run in runs} == {"local-instruct"}
    assert {run.spec.task_options["data"] for run in runs} == {str(sums)}
    waiting = room("sweeps", plan_model="math-lm", plan_task="local-instruct")
    assert not [button for button in waiting.button if button.key == "sweep-launch"], "nothing to launch without a file"
    assert "Name your data to go on" in said(waiting)


def test_a_study_is_run_on_a_file_of_ones_own(room, sums):
    app = room("sweeps", part="Studies", plan_model="math-lm", plan_task="local-instruct")
    assert "Name your data to go on" in said(app)
    assert not [button for button in app.button if button.key == "run-r1"], "nothing to run without a file"
    app.text_input(key="data-path").set_value(str(sums)).run()
    by_label(app, "selectbox", "Answer").set_value("says").run()
    assert "Your data:" in said(app)
    app.number_input(key="study-seeds").set_value(2).run()
    app.button(key="run-r1").click().run()
    assert not app.exception
    (sweep,) = Store().sweeps()
    assert (sweep.plan["study"], sweep.plan["task"]) == ("r1", "local-instruct")
    assert {run.spec.task_options["data"] for run in Store().runs()} == {str(sums)}
    assert f"0 of {sum(sweep.counts.values())} runs done" in said(app)
    other = sums.with_name("other.jsonl")
    other.write_text(sums.read_text())
    app.text_input(key="data-path").set_value(str(other)).run()
    assert not app.exception
    assert f"0 of {sum(sweep.counts.values())} runs done" not in said(app), "a study of one file is not another's"
