"""The advice: one rule, checked by brute force, and what it says on the models that people ask about."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdka.cli.main import main
from cdka.components import INDIVISIBLE
from cdka.cost.memory import training_memory
from cdka.errors import CdkaError
from cdka.machine import Device
from cdka.solver import Setting, advise, default, explore
from cdka.solver.resources import training_bytes

GB = 10**9


@pytest.mark.parametrize(
    ("model", "budget", "taken"),
    [
        ("llama-2-7b", "lora:8", "2,8,3"),
        ("llama-2-7b", "20M", "2,8,3"),
        ("digits-vit", "lora:4", "2,4,3"),
        ("digits-vit", "lora:8", "2,8,3"),
        ("llama-2-7b", "lora:1", "1,1,1"),
        ("digits-vit", "lora:2", "1,1,2"),
    ],
)
def test_what_is_taken(model, budget, taken):
    assert str(default(model, budget).components) == taken


@pytest.mark.parametrize("budget", ["lora:1", "lora:3", "lora:8", "3%", "30%"])
def test_the_rule_against_brute_force(budget):
    solution = explore("digits-vit", budget)
    near = [o for o in solution.options if o.alignment >= 0.98 * max(o.alignment for o in solution.options)]
    plain = [o for o in near if o.is_lora]
    if plain:
        wanted = max(plain, key=lambda o: o.r)
    else:
        lean = [o for o in near if o.flops_per_token <= 2 * min(o.flops_per_token for o in near)]
        wanted = min(lean, key=lambda o: (-o.rank_bound, o.flops_per_token, o.num_params))
    assert advise(solution).option.components == wanted.components


def test_at_a_tiny_budget_it_says_that_lora_is_as_good():
    advice = advise(explore("llama-2-7b", "lora:1"))
    assert advice.lora_is_as_good
    assert "LoRA of rank 1 is as good" in advice.why


def test_a_device_rules_out_what_does_not_fit():
    solution = explore("llama-2-7b", "lora:8")
    setting = Setting(8, 512, "bfloat16")
    small, large = (Device(f"{n} GB", "cuda", n * GB, n * GB) for n in (24, 80))
    assert advise(solution, setting=setting, device=large).fits
    assert not advise(solution, setting=setting, device=small).fits
    leaner = advise(solution, setting=Setting(1, 512, "bfloat16"), device=small)
    assert leaner.fits


def test_a_limit_on_the_exported_rank_is_kept_and_an_impossible_one_refused():
    solution = explore("llama-2-7b", "lora:8")
    assert advise(solution).option.export_rank == 48
    assert advise(solution, max_export_rank=16).option.export_rank <= 16
    with pytest.raises(CdkaError, match="exports as LoRA of rank 0"):
        advise(solution, max_export_rank=0)


@pytest.mark.parametrize("rule", ["skip", "nearest"])
@pytest.mark.parametrize("model", ["digits-vit", "qwen2.5-0.5b"])
def test_what_divides_every_module_is_the_measure_also_where_others_are_allowed(model, rule):
    """Left to the best alignment of all, the rule would take 2432,2432,10 on qwen2.5-0.5b: eleven times the base."""
    plain, found = advise(explore(model, "lora:8")), advise(explore(model, "lora:8", indivisible=rule))
    assert found.option.alignment >= 0.98 * plain.option.alignment
    assert found.option.flops_overhead <= 2 * plain.option.flops_overhead
    assert "as well as the best that divides every module" in found.why
    if rule == "skip":
        assert all(own == o.components for o in found.others.values() for _, own in _fitted(model, o, rule))


def _fitted(model, option, rule):
    return explore(model, "lora:8", indivisible=rule).fitted(option.components)


@pytest.mark.parametrize(("dtype", "device"), [("float32", "cpu"), ("bfloat16", "cuda"), ("nf4", "cuda")])
@pytest.mark.parametrize("model", ["digits-vit", "llama-2-7b"])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("rule", INDIVISIBLE)
def test_the_memory_of_all_options_is_that_of_each(model, dtype, device, twice, rule):
    solution = explore(model, "lora:8", indivisible=rule)
    setting = Setting(3, None if model == "digits-vit" else 77, dtype, gradient_checkpointing=twice)
    told = training_bytes(solution, setting, device)
    for row in np.random.default_rng(0).integers(0, len(solution), 40):
        alone = training_memory(
            solution.shapes,
            solution.linears,
            solution.at([row])[0].components,
            batch_size=3,
            length=setting.length,
            dtype=dtype,
            gradient_checkpointing=twice,
            device_type=device,
            indivisible=rule,
        )
        assert abs(told[row] - alone.total_bytes) <= twice, "a byte may be lost where blocks share what is kept"


def test_the_command_line_and_python_say_the_same(capsys):
    main(["solve", "llama-2-7b", "--budget", "lora:8", "--top", "3", "--json"])
    document = json.loads(capsys.readouterr().out)
    advice = document["advice"]
    assert [advice["r1"], advice["r2"], advice["r"]] == list(default("llama-2-7b", "lora:8").components.as_tuple())
    assert "aligns as well as the best that fits" in advice["why"]
    assert [o["export_rank"] for o in document["options"]] == [o["r1"] * o["r2"] * o["r"] for o in document["options"]]
    assert all(o["memory_bytes"] > 30 * GB for o in document["options"])
    assert {o["fits"] for o in document["options"]} <= {True, False}


def test_how_the_advice_did_is_told_beside_it_where_its_report_ships(monkeypatch, tmp_path):
    """A loss is told like a win."""
    from cdka.solver import default_option

    (tmp_path / "studies").mkdir()
    findings = [
        {
            "measures": f"accuracy of the advised option over {rival}, mean over budgets",
            "effect": effect,
            "ci_low": effect - 0.01,
            "ci_high": effect + 0.01,
            "n": 5,
            "better": [won, 40],
        }
        for rival, effect, won in (("LoRA of equal cost", 0.012, 29), ("a random option of equal cost", -0.004, 17))
    ]
    document = {"model": "digits-vit", "task": "digits-flip", "studies": [{"findings": findings}]}
    (tmp_path / "studies" / "advice.json").write_text(json.dumps(document))
    monkeypatch.setattr(default_option, "assets_dir", lambda: tmp_path)
    default_option.record.cache_clear()
    assert default_option.record() == (
        "How such advice did in accuracy (digits-flip, 5 base models of digits-vit; 95 % intervals over bases): "
        "against LoRA of equal cost +0.012 [+0.002, +0.022], wins 29 of 40; against a random option of equal cost "
        "-0.004 [-0.014, +0.006], wins 17 of 40."
    )
    (tmp_path / "studies" / "advice.json").unlink()
    default_option.record.cache_clear()
    assert default_option.record() == ""
    default_option.record.cache_clear()
