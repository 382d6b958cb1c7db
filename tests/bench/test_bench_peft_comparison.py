"""``cdka bench peft-comparison`` writes what PEFT's ``method_comparison`` scripts read, from real runs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from cdka.bench import peft_comparison
from cdka.cli.main import main
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.resolve import resolve_run, spec_for
from cdka.train.loop import train

SECTIONS = {
    "run_info": {"created_at", "total_time", "experiment_name", "peft_branch", "train_config", "peft_config"},
    "train_info": {
        "accelerator_memory_reserved_avg",
        "accelerator_memory_max",
        "accelerator_memory_reserved_99th",
        "train_time",
        "file_size",
        "num_trainable_params",
        "num_total_params",
        "status",
        "metrics",
    },
    "meta_info": {"model_info", "dataset_info", "package_info", "system_info", "pytorch_info"},
}
"""What PEFT's processing.py and its app read of a result, by section."""
DURING = {"step", "valid accuracy", "train loss", "train samples", "train time", "eval time", "tokens / sec"}
DURING |= {"mem allocated avg", "mem reserved avg", "elapsed time"}
AFTER = {"step", "test accuracy", "train loss", "train samples", "train total tokens", "forgetting"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(the document, the result files by name) of CDKA and LoRA on the digits, eight steps each."""
    out = tmp_path_factory.mktemp("results")
    settings = {"model": "digits-vit", "task": "digits-flip", "retain": "digits", "steps": 8, "out": str(out)}
    document = peft_comparison.run(SimpleNamespace(quick=True, device="cpu", **settings))
    return document, {path.name: json.loads(path.read_text()) for path in out.iterdir()}


def test_every_file_has_the_fields_that_peft_reads(results):
    document, files = results
    assert {row["file"].rsplit("/", 1)[-1] for row in document["rows"]} == set(files)
    assert len(files) == 2
    for name, result in files.items():
        assert set(result) == set(SECTIONS)
        for section, keys in SECTIONS.items():
            assert keys <= set(result[section]), name
        info = result["train_info"]
        assert name == result["run_info"]["experiment_name"].replace("/", "--") + ".json"
        assert info["status"] == "success"
        for key in ("accelerator_memory_reserved_avg", "accelerator_memory_max", "file_size", "num_total_params"):
            assert isinstance(info[key], int)
        *during, last = info["metrics"]
        assert [set(entry) for entry in during] == [DURING, DURING], "looks after steps 4 and 8"
        assert set(last) == AFTER
        assert [entry["step"] for entry in info["metrics"]] == [4, 8, 8]
        assert 0 < info["train_time"] <= result["run_info"]["total_time"]
        assert "peft-version" in result["meta_info"]["package_info"]
        assert "CPU" in result["meta_info"]["system_info"]["accelerator"], "no memory of a GPU is claimed"


def test_methods_meet_at_equal_parameters_with_their_own_settings(results):
    _, files = results
    ours, lora = (next(f for name, f in files.items() if name.startswith(method)) for method in ("cdka--", "lora--"))
    assert ours["run_info"]["peft_config"]["peft_type"] == "CDKA"
    assert ours["run_info"]["peft_config"]["base_model_name_or_path"] == "digits-vit", "no path of a machine"
    assert lora["run_info"]["peft_config"]["peft_type"] == "LORA"
    counted, matched = (f["train_info"]["num_trainable_params"] for f in (ours, lora))
    assert matched == pytest.approx(counted, rel=0.15)
    c = Components(*(ours["run_info"]["peft_config"][name] for name in ("r1", "r2", "r")))
    assert f"r1_{c.r1}-r2_{c.r2}-r_{c.r}" in ours["run_info"]["experiment_name"]
    assert ours["train_info"]["file_size"] > 4 * counted, "the numbers in float32 and a header"


def test_forgetting_is_the_rise_of_the_loss_on_what_is_retained(results, tmp_path):
    """Against the last event of the same run, trained again."""
    _, files = results
    ours = next(f for name, f in files.items() if name.startswith("cdka--"))
    spec = spec_for("digits-vit", "digits-flip", retain="digits", steps=8, device="cpu")
    spec = spec.with_(eval_every=4, eval_examples=32, generate_examples=8, test_examples=16)
    *_, (_, final) = train([resolve_run(spec)], [tmp_path])
    last = ours["train_info"]["metrics"][-1]
    rise = final.metrics["retained/after_loss"] - final.metrics["retained/before_loss"]
    assert rise != 0
    assert last["forgetting"] == pytest.approx(rise, rel=1e-4)
    assert last["test accuracy"] == final.metrics["test/accuracy"]


def test_a_comparison_needs_something_to_forget_and_its_flags_go_nowhere_else(capsys):
    with pytest.raises(CdkaError, match="forgetting is measured on what the model should keep: got no --retain"):
        peft_comparison.run(SimpleNamespace(quick=True, device="cpu", model="digits-vit", task="digits-flip"))
    assert main(["bench", "solver", "--retain", "digits"]) == 2
    assert "--retain goes with the bench peft-comparison: got 'solver'" in capsys.readouterr().err
