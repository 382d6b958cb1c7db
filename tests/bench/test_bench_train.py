"""``cdka bench train`` measures every arm at equal parameters and prints the README's table."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from cdka.bench import train
from cdka.cli.bench import find_bench


@pytest.fixture(scope="module")
def document():
    measured = train.run(SimpleNamespace(device="cpu", rounds=2, quick=True))
    return json.loads(json.dumps(measured))


def test_every_arm_is_measured_at_equal_parameters(document):
    rows = {row["arm"]: row for row in document["rows"]}
    assert list(rows) == ["CDKA 2,8,4", "LoRA (PEFT)", "LoKr (PEFT)", "full", "8 runs of CDKA 2,8,4, packed"]
    ours = rows["CDKA 2,8,4"]
    for name in ("LoRA (PEFT)", "LoKr (PEFT)"):
        assert rows[name]["num_params"] == pytest.approx(ours["num_params"], rel=0.05)
    assert rows["full"]["num_params"] == document["base_params"]
    for row in document["rows"]:
        tokens = row["runs"] * document["batch_size"] * document["length"]
        assert row["tokens_per_s"] == pytest.approx(tokens / row["step_s"])
        assert row["speed_over_cdka"] == pytest.approx(row["tokens_per_s"] / ours["tokens_per_s"])


def test_memory_holds_what_must_be_held(document):
    rows = {row["arm"]: row for row in document["rows"]}
    weights = 4 * document["base_params"]
    for row in document["rows"]:
        assert row["peak_bytes"] > weights + 3 * 4 * row["num_params"]  # gradients and two moments in float32
    assert rows["8 runs of CDKA 2,8,4, packed"]["peak_bytes"] < 8 * rows["CDKA 2,8,4"]["peak_bytes"]  # one base


def test_the_table_is_markdown(document, capsys):
    assert find_bench("train") is train
    train.show(document)
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(document["rows"])
    assert {line.count("|") for line in table} == {6}
    assert document["date"] in lines[0]
