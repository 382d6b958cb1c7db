"""``cdka bench steps`` trains every method on the same batches, at equal parameters, and relates them to LoRA."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cdka.bench import steps
from cdka.cli.bench import find_bench
from cdka.cli.main import main


@pytest.fixture(scope="module")
def document():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MINILM", steps.MINILM | {"hidden_size": 48, "num_hidden_layers": 2})
        measured = steps.run(SimpleNamespace(device="cpu", rounds=2, quick=True, model=None))
    return json.loads(json.dumps(measured))


def test_every_method_trains_on_every_model(document):
    assert [row["model"] for row in document["rows"]] == ["digits-vit", "math-lm", "an encoder of MiniLM's size"]
    for row in document["rows"]:
        methods = row["methods"]
        assert list(methods) == ["CDKA 2,8,4", "LoRA", "LoKr", "full", "frozen"]
        ours = methods["CDKA 2,8,4"]["num_params"]
        assert methods["LoRA"]["num_params"] == pytest.approx(ours, rel=0.1)
        assert methods["full"]["num_params"] == row["base_params"]
        assert methods["frozen"]["num_params"] == 0
        for found in methods.values():
            assert 0 < found["wall_s"]["low"] <= found["wall_s"]["median"] <= found["wall_s"]["high"]
            assert found["over_lora"]["rounds"] == row["rounds"] == 2
        assert methods["LoRA"]["over_lora"]["median"] == 1.0


def test_the_frozen_base_is_passed_back_to_its_embeddings(monkeypatch):
    monkeypatch.setattr(steps, "MINILM", steps.MINILM | {"hidden_size": 48, "num_hidden_layers": 1})
    device, made = steps.resolve_device("cpu"), []
    workload = steps._encoder(device)
    load = workload.load
    watched = replace(workload, load=lambda dtype: made.append(load(dtype)) or made[-1])
    passes, gradients = steps._frozen_step(watched, device, steps.torch.float32), []
    embeddings = made[0].model.get_input_embeddings()
    embeddings.register_forward_hook(lambda *call: call[-1].register_hook(gradients.append) and None)
    passes()
    assert gradients[0].abs().sum() > 0
    assert all(p.grad is None for p in made[0].model.parameters())


def test_the_table_has_a_row_per_model(document, capsys):
    assert find_bench("steps") is steps
    steps.show(document)
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(document["rows"])
    assert len({line.count("|") for line in table}) == 1
    assert document["date"] in lines[0]


def test_a_model_is_refused_by_benches_that_take_none(capsys):
    assert main(["bench", "solver", "--model", "digits-vit"]) == 2
    assert "steps, train, peft-comparison" in capsys.readouterr().err
