"""Paths and Hub ids as people paste them."""

from __future__ import annotations

import pytest

from cdka.errors import CdkaError
from cdka.paths import pasted
from cdka.runs.spec import RunSpec
from cdka.tasks.files.preview import task_for


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"/tmp/my data.csv"', "/tmp/my data.csv"),
        (" '~/x.csv' ", "~/x.csv"),
        ("\u201c/tmp/x\u201d", "/tmp/x"),
        ("file:///tmp/a%20b.csv", "/tmp/a b.csv"),
        ("https://huggingface.co/owner/model-1.5", "owner/model-1.5"),
        ("https://huggingface.co/owner/model/tree/main", "owner/model"),
        ("https://huggingface.co/datasets/owner/set/viewer/default?row=1", "owner/set"),
        ("owner/model", "owner/model"),
        ("reviews.csv", "reviews.csv"),
        ("C:\\Users\\me\\x.csv", "C:\\Users\\me\\x.csv"),
    ],
)
def test_a_pasted_text_is_understood(text, meant):
    assert pasted(text) == meant


def test_separators_are_turned_only_where_that_names_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my file.csv").write_text("x")
    assert pasted("data\\my file.csv") == "data/my file.csv"
    assert pasted("data/my\\ file.csv") == "data/my file.csv"
    assert pasted("data\\none.csv") == "data\\none.csv"


def test_a_run_knows_its_model_by_the_clean_name():
    assert RunSpec(model='"digits-vit"', task="digits-flip").model == "digits-vit"


def test_data_on_the_web_are_asked_for_on_this_machine():
    with pytest.raises(CdkaError, match=r"data must lie on this machine: got 'https://huggingface\.co/datasets/a/b'"):
        task_for(" https://huggingface.co/datasets/a/b", {})
