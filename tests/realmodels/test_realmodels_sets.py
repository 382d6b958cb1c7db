"""The paper's tasks on small copies of their data sets: read in their own format, trained on, judged as they should."""

from __future__ import annotations

import hub_sets
import pytest
import torch

from cdka.errors import CdkaError
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.tasks import code, metamath
from cdka.tasks.catalogue import TASKS, find_task
from cdka.tasks.scores import Answers
from cdka.train.data.load import load_task
from cdka.train.data.objectives import IGNORED
from cdka.train.load_model import load_tokenizer
from cdka.train.loop import train


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def load(spec):
    return load_task(find_task(spec.task), spec)


def tiny_spec(tiny, family, task, options, **changes):
    settings = {"steps": 2, "batch_size": 4, "eval_every": 2, "components": (2, 4, 2), "max_length": 512, **changes}
    return spec_for(tiny(family), task, task_options=options, **settings)


def final_of(spec, folder):
    return [event for _, event in train(resolve_runs([spec]), [folder])][-1].to_dict()


def test_the_recipes_are_the_papers():
    recipe = dict(find_task("metamath-gsm8k").recipe)
    assert recipe["alpha"] == 64.0
    assert recipe["weight_decay"] == 5e-4
    assert recipe["warmup_ratio"] == 0.03
    assert (recipe["schedule"], recipe["batch_size"], recipe["lr"]) == ("cosine", 32, 2e-4)
    assert recipe["components"] == (2, 2, 8)
    assert recipe["steps"] * recipe["batch_size"] == 100_000
    for name in TASKS:
        spec_for("any/model", name)  # every recipe is a valid run


def test_metamath_is_learnt_and_gsm8k_judged_by_its_number(tiny, tmp_path):
    options = {**hub_sets.metamath(tmp_path / "sets"), "max_new_tokens": 4}
    spec = tiny_spec(tiny, "llama", "metamath-gsm8k", options)
    data = load(spec)
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 10, 6)
    assert data.test.references == ("7", "12", "1234", "-3", "5", "1/2")
    judge = data.objective.generation.judge
    said = [
        "The answer is: 7",
        "#### 12.0",
        "so 1,234",
        "#### \u22123",
        "The answer is $5.00.",
        "\\boxed{\\frac{1}{2}}",
    ]
    answers = judge(said, data.test.references)
    assert answers.predicted == ["7", "12", None, "-3", "5", "1/2"]
    assert answers.accuracy == pytest.approx(5 / 6)
    assert answers.unparsed == 1
    final = final_of(spec, tmp_path / "run")
    assert final["metrics"]["test/examples"] == 6
    assert final["metrics"]["test/unparsed"] == sum(p is None for p in final["predictions"]["predicted"])


def test_a_reference_without_a_number_is_an_error(tiny, tmp_path):
    options = hub_sets.metamath(tmp_path / "sets")
    import pandas as pd

    pd.DataFrame([{"question": "?", "answer": "nothing"}]).to_parquet(
        tmp_path / "sets" / "gsm" / "main" / "test-00000-of-00001.parquet"
    )
    with pytest.raises(CdkaError, match="GSM8K row 0 must end in '#### NUMBER'"):
        load(tiny_spec(tiny, "llama", "metamath-gsm8k", options))


def test_code_runs_only_after_consent(tiny, tmp_path):
    options = hub_sets.code(tmp_path / "sets")
    with pytest.raises(CdkaError, match="Allow it with: --task-option allow_code_execution=yes"):
        final_of(tiny_spec(tiny, "llama", "codefeedback-humaneval", options), tmp_path / "run")
    allowed = tiny_spec(
        tiny, "llama", "codefeedback-humaneval", {**options, "allow_code_execution": "yes", "max_new_tokens": 4}
    )
    final = final_of(allowed, tmp_path / "run")
    assert final["metrics"]["test/accuracy"] == 0.0
    assert set(final["predictions"]["predicted"]) <= {"failed", "timed out", None}


def test_humaneval_and_mbpp_pass_with_the_right_code_and_fail_with_wrong(tiny, tmp_path):
    options = {**hub_sets.code(tmp_path / "sets"), "allow_code_execution": True}
    data = load(tiny_spec(tiny, "llama", "codefeedback-humaneval", options))
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 3)
    right = [f"Here it is:\n```python\ndef plus(values):\n    return sum(values) + {i}\n```\nDone." for i in range(3)]
    continued = [f"    return sum(values) + {i}\n" for i in range(3)]
    wrong = ["```python\ndef plus(values):\n    return 99\n```", "import sys; sys.exit(0)", "  "]
    for texts, expected in ((right, ["passed"] * 3), (continued, ["passed"] * 3), (wrong, ["failed", "failed", None])):
        assert code.judge(texts, data.test.references).predicted == expected
    solved = [f"```python\ndef add_it(x):\n    return x + {i}\n```" for i in range(4)]
    assert code.judge(solved, data.validation.references).accuracy == 1.0
    assert code.judge(solved[::-1], data.validation.references).accuracy == 0.0


@pytest.mark.parametrize("name", hub_sets.GLUE)
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_glue_is_classified_by_encoders_and_written_by_t5(family, name, tiny, tmp_path):
    options = hub_sets.glue(tmp_path / "glue")
    spec = tiny_spec(tiny, family, f"glue-{name}", options)
    data = load(spec)
    assert len(data.test) == 8
    assert len(data.train) + len(data.validation) == 24
    assert not set(data.train.ids) & set(data.validation.ids)
    if family == "t5":
        first = data.train.take(torch.tensor([0]))
        tokenizer = load_tokenizer(spec.model).hf_tokenizer
        assert tokenizer.decode(first.source[0].tolist(), skip_special_tokens=True).startswith(f"{name} ")
    if name in ("sst2", "mnli"):
        metrics = final_of(spec, tmp_path / "run")["metrics"]
        assert metrics["test/examples"] == 8
    if name in ("mrpc", "qqp"):
        assert data.objective.scores(_all_right()) == {"f1": 1.0}
    if name == "cola":
        assert data.objective.scores(_all_right()) == {"matthews": 1.0}


def _all_right():
    labels = [0, 1] * 4
    return Answers(labels, labels)


@pytest.mark.parametrize("task", ["arc-easy", "arc-challenge", "openbookqa", "commonsense-qa", "boolq", "hellaswag"])
def test_commonsense_questions_are_answered_by_a_letter(task, tiny, tmp_path):
    spec = tiny_spec(tiny, "llama", task, hub_sets.commonsense(tmp_path / "set", task))
    data = load(spec)
    assert len(data.test) == 16
    options = {"boolq": 2, "commonsense-qa": 5}.get(task, 4)
    assert set(data.test.references) <= set("ABCDE"[:options])
    if task.startswith("arc"):
        assert data.test.references[0] == "C"  # options numbered 1, 2, 3
    answers = data.objective.generation.judge(["A", "(B)", "The answer is C.", "none"], ["A", "B", "C", "A"])
    assert answers.predicted == ["A", "B", "C", None]


def test_the_loss_of_an_instruction_counts_the_answer_and_its_end_alone(tiny, tmp_path):
    spec = tiny_spec(tiny, "llama", "arc-easy", hub_sets.commonsense(tmp_path / "set", "arc-easy"))
    batch = load(spec).train.take(torch.arange(2))
    judged = (batch.labels != IGNORED).sum(1)
    assert judged.tolist() == [2, 2]  # one letter and the end mark
    tokens = batch.inputs["input_ids"][batch.labels != IGNORED]
    assert torch.equal(tokens, batch.labels[batch.labels != IGNORED])


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_pictures_of_a_hub_data_set_are_learnt(family, tiny, tmp_path):
    options = {"dataset": hub_sets.images(tmp_path / "shades")}
    spec = tiny_spec(tiny, family, "hub-images", options, steps=30, batch_size=8, eval_every=30, lr=1e-2, alpha=16.0)
    final = final_of(spec, tmp_path / "run")
    assert final["metrics"]["test/accuracy"] > 0.9


def test_hub_pictures_without_a_test_split_get_one_and_other_columns_can_be_named(tiny, tmp_path):
    options = {"dataset": hub_sets.images(tmp_path / "a", splits=("train",))}
    data = load(tiny_spec(tiny, "vit", "hub-images", options))
    assert any("no test split" in note for note in data.notes)
    sets = [set(part.ids.tolist()) for part in (data.train, data.validation, data.test)]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 24
    named = {
        "dataset": hub_sets.images(tmp_path / "b", columns=("img", "kind")),
        "image_column": "img",
        "label_column": "kind",
    }
    assert load(tiny_spec(tiny, "vit", "hub-images", named)).label_names == ("dark", "light")
    with pytest.raises(CdkaError, match="missing image, label; it has img, kind"):
        load(tiny_spec(tiny, "vit", "hub-images", {"dataset": named["dataset"]}))
    with pytest.raises(CdkaError, match="needs a data set"):
        load(tiny_spec(tiny, "vit", "hub-images", {}))


def test_cifar_has_its_own_columns(tiny, tmp_path):
    folder = hub_sets.images(tmp_path / "cifar", columns=("img", "label"))
    (tmp_path / "cifar" / "data").rename(tmp_path / "cifar" / "plain_text")
    data = load(tiny_spec(tiny, "vit", "cifar10", {"mirror": folder}))
    assert (len(data.test), data.num_labels) == (24, 2)


def test_subsets_are_fixed_and_sizes_can_be_set(tiny, tmp_path):
    options = {**hub_sets.metamath(tmp_path / "sets"), "train_examples": "5", "validation_examples": 3}
    first, again = (load(tiny_spec(tiny, "llama", "metamath-gsm8k", options, seed=seed)) for seed in (0, 9))
    assert (len(first.train), len(first.validation)) == (5, 3)
    assert first.train.ids.tolist() == again.train.ids.tolist()
    with pytest.raises(CdkaError, match="train_examples must be a whole number"):
        load(tiny_spec(tiny, "llama", "metamath-gsm8k", {**options, "train_examples": "many"}))
    with pytest.raises(CdkaError, match="unknown task option 'gsm8'"):
        load(tiny_spec(tiny, "llama", "metamath-gsm8k", {"gsm8": "x"}))
    assert metamath.TRAIN_EXAMPLES == 100_000
