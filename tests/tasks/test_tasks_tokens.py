"""The first batch as a model sees it: every token, and which of them the loss counts."""

from __future__ import annotations

import json

import pytest

from cdka.errors import CdkaError
from cdka.runs.resolve import spec_for
from cdka.tasks.catalogue import find_task
from cdka.tasks.files.preview import task_for, token_preview
from cdka.train.data.load import load_task
from cdka.train.data.objectives import IGNORED
from cdka.train.data.token_preview import token_view


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def spec_of(path, **given):
    task, options = task_for(str(path), given)
    return spec_for("math-lm", task, task_options=options, max_length=7)


def test_the_loss_counts_the_answer_and_its_end_and_what_is_cut_is_told(sums):
    view = token_view(spec_of(sums, template="{prompt}").to_dict(), 2)
    assert len(view["batch"]) == 2
    assert "".join(view["batch"][0]["tokens"]) == "<bos>0+0=0<eos>"
    assert view["batch"][0]["judged"] == [False] * 5 + [True] * 2
    lengths = view["lengths"]["train"]
    assert set(lengths) == {7, 8}  # one or two digits in the sum
    assert view["longer"]["train"] == sum(length > 7 for length in lengths) > 0
    assert any("longer than max_length=7 tokens and were" in note for note in view["notes"])
    assert not any("unknown" in note for note in view["notes"])


def test_a_tokenizer_that_cannot_read_the_text_is_told(sums):
    spec = spec_of(sums, template="{prompt} please").with_(max_length=64)
    notes = token_view(spec.to_dict(), 2)["notes"]
    assert any("of the tokens are unknown to the tokenizer of 'math-lm'" in note for note in notes)


def test_the_process_says_why_there_is_nothing_to_show(sums):
    with pytest.raises(CdkaError, match="unknown column"):
        token_preview(spec_of(sums).with_(task_options={"data": str(sums), "prompt_column": "nope"}))


@pytest.mark.parametrize("name", ["math-chain", "math"])
def test_an_embedded_task_knows_how_many_tokens_its_loss_counts(name):
    task = find_task(name)
    train = load_task(task, spec_for("math-lm", name)).train
    assert task.num_loss_tokens == int((train.target.values != IGNORED).sum())


def test_a_classification_has_one_label_an_example_and_what_must_be_downloaded_is_not_known():
    assert find_task("digits-flip").num_loss_tokens == 900
    assert find_task("metamath-gsm8k").num_loss_tokens is None
