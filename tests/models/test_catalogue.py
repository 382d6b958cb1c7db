"""The catalogue against what the model cards publish, and against a rebuild from the configurations."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import from_json, to_json
from cdka.models.targets import select
from cdka.solver import evaluate
from tools.published import PUBLISHED

# Parameter counts as the safetensors metadata of the published checkpoints give them (encoders: plus a two-label head).
PUBLISHED_COUNTS = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 4_300_079_472,
    "gemma-3-12b": 12_187_325_040,
    "gemma-3-27b": 27_432_406_640,
    "smollm2-1.7b": 1_711_376_384,
    "qwen3-0.6b": 596_049_920,
    "phi-3-medium": 13_960_238_080,
    "phi-4-mini": 3_836_021_760,
    "t5-base": 222_903_552,
    "pythia-2.8b": 2_775_208_960,
    "phi-3-mini": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "smollm2-135m": 134_515_008,
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "pythia-1b": 1_011_781_632,
    "pythia-6.9b": 6_857_302_016,
    "t5-small": 60_506_624,
    "t5-large": 737_668_096,
    "flan-t5-xl": 2_849_757_184,
    "bert-base": 109_483_778,
    "roberta-base": 124_647_170,
    "deberta-v3-base": 184_423_682,
    "minilm-l6": 22_713_216 + 2 * 384 + 2,
    "vit-base": 86_567_656,
    "vit-large": 304_326_632,
    "clip-vit-b32": 87_456_000 + 2 * 768 + 2,
    "clip-vit-l14": 303_179_776 + 2 * 1024 + 2,
}


def test_there_are_at_least_thirty_architectures_and_the_embedded_ones_come_first():
    models = list_models()
    assert len(models) >= 30
    embedded = [shapes.embedded for shapes in models]
    assert embedded == sorted(embedded, reverse=True)
    assert models[0].embedded
    assert len({shapes.name for shapes in models}) == len(models)
    assert {entry.name for entry in PUBLISHED} <= {shapes.name for shapes in models}


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_parameter_counts_are_the_published_ones(name):
    assert find_model(name).base_params == PUBLISHED_COUNTS[name]


def test_lora_of_rank_8_on_llama_2_7b_trains_19988480():
    assert evaluate("llama-2-7b", (1, 1, 8)).num_params == 19_988_480


def test_every_model_has_adaptable_layers_and_knows_its_size():
    for shapes in list_models():
        assert select(shapes), shapes.name
        details = dict(shapes.details)
        assert details["hidden_size"] > 0, shapes.name
        sees_and_writes = shapes.kind == "image-text"
        assert (details.get("num_layers", 0) > 0) != sees_and_writes, (
            "no estimate for a language model with a vision tower"
        )
        assert sum(linear.num_weights for linear in shapes.linears) < 1.6 * shapes.base_params, shapes.name


def test_fused_experts_are_counted_but_not_offered():
    mixtral = find_model("mixtral-8x7b")
    assert {linear.role for linear in select(mixtral)} == {"attention"}
    assert dict(mixtral.details)["expert_params"] == 32 * 8 * 3 * 4096 * 14336


def test_json_and_back_is_the_same_model():
    for shapes in list_models():
        assert from_json(to_json(shapes)) == shapes


def test_a_listed_hub_id_needs_no_network():
    assert find_model("meta-llama/Llama-2-7b-hf") == find_model("llama-2-7b")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lama-2-7b", "Did you mean 'llama-2-7b'"),
        ("digits_vit", "digits-vit"),
        ("./no/such/folder", "must exist"),
        ("", "a model is"),
        (None, "a model is"),
    ],
)
def test_unknown_models_are_told_in_one_line(name, words):
    with pytest.raises(CdkaError, match=words) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)


REBUILD = """
import json, sys
from tools.build_catalogue import build_published, embedded_models
from cdka.models.shapes import to_json
from tools.published import PUBLISHED
from cdka.paths import assets_dir
names = sys.argv[1:]
print(json.dumps([to_json(build_published(entry)) for entry in PUBLISHED if entry.name in names]
                 + [to_json(shapes) for shapes in embedded_models(assets_dir())]))
"""


def test_a_rebuild_from_the_configurations_gives_the_stored_shapes():
    import json

    names = [
        "llama-2-7b",
        "llama-3.2-1b",
        "mixtral-8x7b",
        "gemma-2-2b",
        "gpt2",
        "pythia-70m",
        "t5-small",
        "bert-base",
        "deberta-v3-small",
        "vit-base",
        "clip-vit-b32",
        "qwen3-0.6b",
        "phi-3-mini",
    ]
    done = subprocess.run([sys.executable, "-c", REBUILD, *names], capture_output=True, text=True, check=True)
    rebuilt = [from_json(document) for document in json.loads(done.stdout.splitlines()[-1])]
    assert {shapes.name for shapes in rebuilt} >= {*names, "digits-vit"}
    for shapes in rebuilt:
        assert shapes == find_model(shapes.name), shapes.name


LIGHT = """
import sys, cdka.solver, cdka.models.catalogue, cdka.models.targets, cdka.theory, cdka.solver.budget, cdka.cost.adapter
cdka.solver.solve("digits-vit", "5%")
print(sorted({"torch", "transformers", "peft", "streamlit"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("before", "expected"), [("", "[]"), ("import sys; sys.modules['torch'] = sys\n", "['torch']")], ids=["", "probe"]
)
def test_catalogue_targets_and_solver_stay_free_of_torch(before, expected):
    done = subprocess.run([sys.executable, "-c", before + LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
