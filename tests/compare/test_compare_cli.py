"""``cdka compare`` on a store of made-up runs: JSON as promised, a table for people, refusals in a line."""

from __future__ import annotations

import json

import pytest
from compare_store import fill
from compare_synthetic import grid

from cdka.cli.main import main
from cdka.runs.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("CDKA_HOME", str(tmp_path))
    return Store()


def test_json_is_the_contract(store, capsys):
    sweep_id = fill(store, "r1 ladder", grid(r1=(1, 2, 4, 8), seeds=6), adapters=False)
    assert main(["compare", sweep_id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["header"] == "test accuracy at the end"
    assert [arm["components"] for arm in found["arms"]] == [[r1, 4, 1] for r1 in (1, 2, 4, 8)]
    frame = store.frame(sweep_id=sweep_id)
    for arm, r1 in zip(found["arms"], (1, 2, 4, 8), strict=True):
        own = frame[frame["r1"] == r1]
        assert arm["seeds"] == 6
        assert arm["seed_list"] == list(range(6))
        assert arm["mean"] == pytest.approx(own["test/accuracy"].mean())
        assert arm["sd"] == pytest.approx(own["test/accuracy"].std())
        assert arm["ci_low"] < arm["mean"] < arm["ci_high"]
        assert arm["num_params"] == own["num_params"].iloc[0]
    assert len(found["verdicts"]) == 3
    (r1,) = found["trends"]
    assert (r1["factor"], r1["finding"]) == ("r1", "degrades")


def test_table_for_people_names_the_aggregation_and_what_is_missing(store, capsys):
    fill(store, "ladder", grid(r1=(1, 2), seeds=2), ends={3: "failed"}, adapters=False)
    assert main(["compare"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ladder: test accuracy at the end\n")
    assert "± " in out
    assert "(1 seed)" in out
    assert "1 of 4 runs failed: not counted." in out


def test_a_step_on_the_way_can_be_compared(store, capsys):
    fill(store, "ladder", grid(r1=(1, 2), seeds=2), adapters=False)
    assert main(["compare", "ladder", "--step", "60", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["aggregation"], found["header"]) == ("step", "validation accuracy at step 60")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], ["unknown sweep 'nosuch'"]),
        (["laddr"], ["Did you mean 'ladder'"]),
        (["ladder", "--metric", "acuracy"], ["unknown metric 'acuracy'", "'test/accuracy'"]),
        (["ladder", "--step", "61"], ["step 61", "step 60"]),
        (["ladder", "--aggregation", "last"], ["unknown aggregation 'last'"]),
        (["ladder", "--reference", "cdka 3,4,1"], ["unknown arm", "cdka"]),
        (["nosuch.zip"], ["nosuch.zip"]),
        (["ladder", "--export", "claim.tar"], [".zip"]),
    ],
)
def test_refusals_are_one_line_and_exit_2(store, capsys, arguments, words):
    fill(store, "ladder", grid(r1=(1, 2), seeds=2), adapters=False)
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def test_an_empty_store_says_what_to_do(store, capsys):
    assert main(["compare"]) == 2
    assert "no sweeps yet" in capsys.readouterr().err


def test_the_example_is_compared_on_an_empty_home_and_leaves_nothing_in_it(store, capsys):
    assert main(["compare", "example", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(len(arm["seed_list"]) for arm in found["arms"]) == 90
    assert found["references"] == ["lora 4"]
    assert not (store.home / "bundles").exists()


def test_a_bundle_is_shown_as_it_claims_unless_asked_otherwise(store, capsys, tmp_path):
    sweep_id = fill(store, "r1 ladder", grid(r1=(1, 2, 4), seeds=3), adapters=False)
    path = str(tmp_path / "claim.zip")
    assert (
        main(["compare", sweep_id, "--metric", "loss", "--step", "60", "--reference", "4,4,1", "--export", path]) == 0
    )
    capsys.readouterr()
    assert main(["compare", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["header"], found["references"]) == ("validation loss at step 60", ["cdka 4,4,1"])
    assert main(["compare", path, "--metric", "accuracy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["header"] == "test accuracy at the end"


def test_a_figure_is_exported_by_its_name(store, capsys, tmp_path):
    fill(store, "r1 ladder", grid(r1=(1, 2), seeds=3), adapters=False)
    assert main(["compare", "--export", str(tmp_path / "front.html")]) == 0
    assert "seeds 0, 1, 2" in (tmp_path / "front.html").read_text()
    capsys.readouterr()
    assert main(["compare", "--export", str(tmp_path / "fornt.svg")]) == 2
    error = capsys.readouterr().err
    assert "unknown figure 'fornt'" in error
    assert "front" in error
