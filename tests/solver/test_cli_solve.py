from __future__ import annotations

import json

import pytest

from cdka.cli.main import main
from cdka.components import Components
from cdka.solver import explore
from cdka.solver.explain import fitted_in_words


def test_json_has_the_promised_keys_and_nothing_else_is_on_stdout(capsys):
    assert main(["solve", "llama-2-7b", "--budget", "lora:8", "--target-modules", "q_proj,v_proj", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "llama-2-7b"
    assert document["base_params"] == 6_738_415_616
    assert document["target_modules"] == ["q_proj", "v_proj"]
    assert document["budget_params"] == 8 * 64 * 8192
    assert document["num_options"] == len(document["options"]) > 50
    keys = {
        "r1",
        "r2",
        "r",
        "num_params",
        "budget_used",
        "rank_bound",
        "alignment",
        "flops_overhead",
        "scaling",
        "residual",
        "flops_per_token",
        "adapter_bytes",
        "pareto",
    }
    assert keys <= set(document["options"][0])


def test_table_lists_the_guidelines_with_parameter_counts(capsys):
    assert main(["solve", "digits-vit", "--budget", "10%", "--top", "3"]) == 0
    got = capsys.readouterr()
    assert "parameters" in got.out
    assert "paper" in got.out
    assert "LoRA" in got.out
    assert "take 2,8,3" in got.err, "the option to take, in a sentence"


def test_weights_and_limits_reach_the_solver(capsys):
    arguments = ["--budget", "10%", "--max-r1", "2", "--max-r2", "8", "--max-r", "2", "--weights", "flops=1", "--json"]
    assert main(["solve", "digits-vit", *arguments, "--top", "1"]) == 0
    (first,) = json.loads(capsys.readouterr().out)["options"]
    assert (first["r1"], first["r2"], first["r"]) == (1, 1, 1)
    assert first["score"] == 1.0


def test_models_lists_embedded_first_and_shows_one(capsys):
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert models[0]["embedded"]
    assert main(["models", "digits-vit"]) == 0
    assert "vit.layers.*.attention.q_proj" in capsys.readouterr().out
    assert main(["models", "--family", "qwen3"]) == 0
    assert "qwen3-8b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solve", "digits-vit"], "--budget"),
        (["solve", "digits-vit", "--budget", "0"], "positive"),
        (["solve", "nope", "--budget", "1%"], "unknown model"),
        (["solve", "digits-vit", "--budget", "1%", "--max-r1", "x"], "invalid int"),
        (["solve", "digits-vit", "--budget", "1%", "--top", "-1"], "top"),
        (["models", "--family", "zzz"], "family"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert words in got.err
    assert got.err.count("\n") == 1


def test_indivisible_counts_and_names_what_each_module_gets(capsys):
    limits = ["--max-r1", "16", "--max-r2", "64", "--batch-size", "8", "--length", "512", "--json"]
    assert main(["solve", "qwen2.5-0.5b", "--budget", "lora:8", *limits, "--indivisible", "nearest"]) == 0
    document = json.loads(capsys.readouterr().out)
    option = next(o for o in document["options"] if (o["r1"], o["r2"], o["r"]) == (2, 28, 1))
    down = "model.layers.*.mlp.down_proj"
    assert {path: own for path, own in option["modules"].items() if own != [2, 28, 1]} == {down: [2, 32, 1]}
    assert (option["export_rank"], document["resources"]["total_bytes"] > 0) == (64, True)
    solution = explore("qwen2.5-0.5b", "lora:8", indivisible="nearest")
    told = fitted_in_words(solution.find(Components(2, 28, 1)), solution)
    assert told == f"2,28,1 does not divide every module: {down} gets 2,32,1."
    assert (
        main(["solve", "qwen2.5-0.5b", "--budget", "lora:8", "--per-module", "balanced", "--indivisible", "skip"]) == 2
    )
    assert "--per-module gives each module components that divide it" in capsys.readouterr().err


def test_experts_that_no_adapter_reaches_are_told(capsys):
    assert main(["solve", "mixtral-8x7b", "--budget", "lora:4", "--top", "1"]) == 0
    assert "note: the experts are not adapted: 97% of the weights lie in fused expert layers" in capsys.readouterr().err
    assert main(["solve", "mixtral-8x7b", "--budget", "lora:4", "--top", "1", "--json"]) == 0
    assert "the experts are not adapted" in json.loads(capsys.readouterr().out)["notes"][0]
    assert main(["solve", "digits-vit", "--budget", "lora:4", "--top", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
