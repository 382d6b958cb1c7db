"""The LoRA export: exact in float64, complete or not there, and refused with a reason. Outputs: see the matrix."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from cdka.adapter import CdkaConfig, export_lora
from cdka.cli import main as cli
from cdka.theory.factors import Factors


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16))


def adapter(tmp_path, **changes):
    settings = {"r1": 2, "r2": 4, "r": 3, "alpha": 8.0, "target_modules": ["0", "2"], "init_weights": "random"}
    model = get_peft_model(network(), CdkaConfig(**{**settings, **changes}))
    model.save_pretrained(tmp_path / "adapter")
    return model


@pytest.mark.parametrize("scaling", [0.7, -1.3, 0.0])
def test_the_product_of_the_factors_is_delta_weight(scaling):
    rng = np.random.default_rng(0)
    factors = Factors(rng.normal(size=(3, 2, 6)), rng.normal(size=(3, 30, 4)), scaling)
    lora_A, lora_B = factors.lora()
    assert (lora_A.shape, lora_B.shape) == ((24, 24), (60, 24))
    np.testing.assert_allclose(lora_B @ lora_A, factors.delta(), rtol=1e-13, atol=1e-13)


def test_a_standard_adapter_with_a_pattern_where_ranks_differ(tmp_path):
    model = adapter(tmp_path, component_pattern={"2": (1, 1, 5)}, scaling_rule="r")
    report = export_lora(tmp_path / "adapter", tmp_path / "lora")
    assert report.ranks == {"0": 24, "2": 5}
    assert "a stock vLLM refuses more than 16" in report.note
    config = LoraConfig.from_pretrained(tmp_path / "lora")
    assert (config.peft_type, config.use_rslora, config.use_dora) == ("LORA", False, False)
    loaded = PeftModel.from_pretrained(network(), tmp_path / "lora")
    assert {m.scaling["default"] for m in loaded.modules() if hasattr(m, "lora_A")} == {1.0}
    x = torch.randn(5, 24)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-6, atol=1e-6)


def test_a_rank_beyond_what_a_stock_vllm_accepts_is_noted_with_its_flag(tmp_path, capsys):
    adapter(tmp_path, r1=4, r2=6, r=1)
    assert cli.main(["export-lora", str(tmp_path / "adapter"), str(tmp_path / "lora"), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["ranks"] == {"0": 24, "2": 16}
    assert "--max-lora-rank 32" in document["note"]
    assert document["note"] in captured.err
    assert cli.main(["export-lora", str(tmp_path / "adapter"), str(tmp_path / "again")]) == 0
    assert "LoRA of rank 16, 24 on 2 modules" in capsys.readouterr().out


def broken(tmp_path, how: str):
    adapter(tmp_path)
    directory = tmp_path / "adapter"
    config, weights = directory / "adapter_config.json", directory / "adapter_model.safetensors"
    if how == "no config":
        config.unlink()
    elif how == "no weights":
        weights.unlink()
    elif how == "config is not JSON":
        config.write_text("{")
    elif how == "weights are not safetensors":
        weights.write_bytes(b"nonsense")
    elif how == "a LoRA adapter":
        config.write_text(json.dumps({"peft_type": "LORA"}))
    elif how == "a factor is missing":
        tensors = load_file(weights)
        tensors.pop(next(key for key in tensors if key.endswith("cdka_B")))
        save_file(tensors, weights)
    elif how == "no factors":
        save_file({}, weights)
    return directory


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "needs its adapter_config.json"),
        ("no weights", "an adapter folder holds adapter_model.safetensors or one safetensors file: got none in"),
        ("config is not JSON", "adapter_config.json must be JSON"),
        ("weights are not safetensors", "an adapter file must be a whole safetensors file"),
        ("a LoRA adapter", "adapter_config.json and tensors belong together"),
        ("a factor is missing", "every module needs all its factors: '0'"),
        ("no factors", "no adapter is in"),
    ],
)
def test_a_directory_that_is_no_adapter_is_refused_and_nothing_is_written(how, message, tmp_path, capsys):
    directory = broken(tmp_path, how)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["export-lora", str(directory), str(tmp_path / "lora")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_holds_something_or_cannot_be_written_is_refused(tmp_path, capsys):
    adapter(tmp_path)
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("keep me")
    file = tmp_path / "file"
    file.write_text("")
    for target, message in ((full, "a new or empty directory"), (file, "a new or empty"), (file / "x", "cannot write")):
        assert cli.main(["export-lora", str(tmp_path / "adapter"), str(target)]) == 2
        assert message in capsys.readouterr().err
    assert (full / "precious").read_text() == "keep me"
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".export")]
    (tmp_path / "empty").mkdir()
    export_lora(tmp_path / "adapter", tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 2
