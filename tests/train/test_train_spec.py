"""The specification of a run: round trip, recipes, and every refusal's text."""

from __future__ import annotations

import json

import pytest

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.resolve import spec_for
from cdka.runs.spec import RunSpec


def test_a_spec_survives_json():
    spec = spec_for(
        "digits-vit",
        "digits-flip",
        components="1,4,2",
        component_pattern={"fc1": (2, 4, 1)},
        target_modules=["q_proj", "fc1"],
        seed=7,
    )
    again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.component_pattern["fc1"] == Components(2, 4, 1)


def test_what_is_given_wins_over_the_recipe_and_the_recipe_over_the_defaults():
    assert spec_for("digits-vit", "digits-flip").steps == 200
    assert spec_for("digits-vit", "digits-flip", steps=3, lr=None).steps == 3
    assert spec_for("digits-vit", "digits-flip", lr=None).lr == spec_for("digits-vit", "digits-flip").lr


def test_scaling_is_the_papers_for_cdka_and_rslora_for_lora():
    assert spec_for("m", "digits-flip", components="2,8,4", alpha=64).scaling == pytest.approx(64 / 32**0.5)
    assert spec_for("m", "digits-flip", method="lora", rank=4, alpha=64).scaling == pytest.approx(32)
    assert spec_for("m", "digits-flip", method="lora", rank=4, alpha=64, scaling_rule="r").scaling == pytest.approx(16)
    assert spec_for("m", "digits-flip", method="full").scaling is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1: got 0."),
        ({"steps": 2.5}, "steps must be an integer of at least 1: got 2.5."),
        ({"lr": -1e-3}, "lr must be a positive number: got -0.001."),
        ({"lr": float("nan")}, "lr must be a positive number: got nan."),
        ({"alpha": float("inf")}, "alpha must be a positive number: got inf."),
        ({"method": "lroa"}, "unknown method 'lroa'. Did you mean 'lora'?"),
        ({"components": "2,8"}, "components must be three integers r1,r2,r: got '2,8'. Example: 2,8,4."),
        ({"components": "0,8,4"}, "r1 must be a positive integer: got 0. Example: r1=2, r2=8, r=4."),
        (
            {"method": "lora", "components": "2,8,4"},
            "components belong to method cdka: got components=2,8,4 for 'lora'.",
        ),
        ({"rank": 4}, "rank must be a positive integer, for lora, lokr, dora only: got rank=4 for 'cdka'."),
        ({"dtype": "float8"}, "dtype must be one of auto, float32, bfloat16, float16, float64, int8, nf4: got"),
        ({"init_weights": "kaimng"}, "init_weights must be one of kaiming, random, gradient: got 'kaimng'."),
        ({"init_weights": "gradient", "dtype": "nf4"}, "init_weights gradient differentiates the base weights, which"),
        ({"learning_rate": 1.0}, "unknown run setting 'learning_rate'."),
        ({"warmup_ratio": 1.0}, "warmup_ratio must be at least 0 and below 1: got 1.0."),
    ],
)
def test_refusals_name_the_rule_and_the_value(settings, text):
    with pytest.raises(CdkaError) as refusal:
        spec_for("digits-vit", "digits-flip", **settings)
    assert str(refusal.value).startswith(text)
    assert "\n" not in str(refusal.value)


def test_how_the_factors_start_belongs_to_cdka():
    assert spec_for("digits-vit", "digits-flip", init_weights="gradient").init_weights == "gradient"
    assert spec_for("digits-vit", "digits-flip", init_weights="gradient", method="lora").init_weights == "kaiming"


def test_an_unknown_task_suggests_the_nearest():
    with pytest.raises(CdkaError, match="Did you mean 'digits-flip'"):
        spec_for("digits-vit", "digit-flip")
