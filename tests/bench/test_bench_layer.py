"""The layer bench: fair rivals, exact counts, and a document that says what was and was not measured."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from cdka.bench import layer, rivals
from cdka.components import Components


@pytest.mark.parametrize("components", layer.CONFIGURATIONS)
@pytest.mark.parametrize("size", [(1024, 1024), (14336, 4096)])
def test_rivals_have_equal_numbers_of_parameters_and_share_the_base(components, size):
    base = rivals.frozen(*size, torch.device("meta"), torch.float32)
    made = {name: config for name, (config, _) in rivals.configs(components, *size).items()}
    budget = components.num_params(*size)
    assert abs(made["lora"].r * sum(size) - budget) <= sum(size) / 2
    lokr = 64 + made["lokr"].r * sum(size) / 8
    assert abs(lokr - budget) <= sum(size) / 8
    assert base.weight.shape == size


def test_rivals_are_trainable_layers_over_one_weight():
    base = rivals.frozen(96, 64, torch.device("cpu"), torch.bfloat16)
    made = rivals.make(base, Components(2, 8, 4))
    assert {m.get_base_layer().weight.data_ptr() for m in made.values()} == {base.weight.data_ptr()}
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    for name, module in made.items():
        torch.testing.assert_close(module(x), base(x))  # every method starts at delta W = 0
        dtypes = {p.dtype for p in module.parameters() if p.requires_grad}
        assert dtypes == {torch.bfloat16 if name == "lora_low" else torch.float32}
        assert not module.get_base_layer().weight.requires_grad


def test_the_document_is_json_and_has_a_row_per_target(monkeypatch, capsys):
    monkeypatch.setattr(layer, "LAYERS", ((96, 64),))
    monkeypatch.setattr(layer, "TOKENS", (32,))
    monkeypatch.setattr(layer, "CONFIGURATIONS", (Components(2, 8, 4),))
    document = layer.run(argparse.Namespace(device="cpu", quick=False, full=False, rounds=3))
    json.dumps(document)
    (cell,) = document["cells"]
    assert cell["num_params"]["cdka"] == Components(2, 8, 4).num_params(96, 64)
    assert set(cell["step_over"]) == {"lora", "lora_low", "lora_ours", "lokr"}
    assert all(r["low"] <= r["median"] <= r["high"] for r in cell["step_over"].values())
    rows = {row["measure"]: row for row in document["targets"]}
    assert rows["forward and backward / frozen"]["met"] is None
    assert rows["forward and backward / frozen"]["value"] is None
    layer.show(document)
    printed = capsys.readouterr().out
    assert "not here" in printed
    assert "64 -> 96" in printed
    heading, empty, _, _, *body = layer.markdown(document).splitlines()
    assert (document["date"] in heading, empty, len(body)) == (True, "", len(document["targets"]))
    assert {line.count("|") for line in body} == {6}
    assert body[0] == "| forward and backward / frozen | <= 1.25 | not here |  | 4096, 8192 tokens, GPU |"
    assert "| output-sized copies | <= 0 | 0 | yes | counted, largest of four configurations |" in body


def test_the_counted_targets_are_met():
    for components in layer.CONFIGURATIONS:
        counted = layer._counted(components)
        assert counted["float32"]["extra_kernels"]["cdka"] <= 8
        assert counted["bfloat16"]["extra_kernels"]["cdka"] <= 10 < counted["bfloat16"]["extra_kernels"]["lora"]
        assert counted["float32"]["output_sized_copies"] == counted["bfloat16"]["output_sized_copies"] == 0
        assert counted["bfloat16"]["peak_memory_over"]["lora"] <= 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_targets_are_met():
    document = layer.run(argparse.Namespace(device="cuda:0", quick=True, full=False, rounds=20))
    missed = [row for row in document["targets"] if row["met"] is False and "extra kernels, fp32" not in row["measure"]]
    assert not missed, missed
