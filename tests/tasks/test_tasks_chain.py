"""The embedded arithmetic: the chains are right, the splits apart, and the shipped model is what is said of it."""

from __future__ import annotations

import json
import random
import re

import pytest
from safetensors.torch import load_file

from cdka.models.catalogue import find_model
from cdka.paths import assets_dir
from cdka.tasks.catalogue import find_task
from cdka.tasks.math_chain import (
    MAX_ANSWER_TOKENS,
    chains,
    random_chain,
    random_product_chain,
    read_totals,
)
from cdka.train.load_model import load_model, load_tokenizer
from tools.build_math_lm import accuracy

MAKERS = {"math": random_chain, "math-chain": random_product_chain}


def totals_of(prompt):
    """The running totals, worked out from the text alone."""
    first, *rest = re.findall(r"[-+*]?\d+", prompt)
    total, found = int(first), []
    for term in rest:
        number = int(term[1:])
        total = {"+": total + number, "-": total - number, "*": total * number}[term[0]]
        found.append(total)
    return found


@pytest.mark.parametrize("task", MAKERS)
def test_every_chain_is_right_and_fits(task):
    rng = random.Random(1)
    for _ in range(2000):
        prompt, answer = MAKERS[task](rng)
        assert prompt.endswith("=")
        totals = totals_of(prompt)
        assert answer == ",".join(map(str, totals))
        assert all(0 <= total <= 99 for total in totals)
        assert len(answer) + 1 <= MAX_ANSWER_TOKENS
        assert prompt.count("*") == (task == "math-chain")


@pytest.mark.parametrize("task", MAKERS)
def test_the_splits_share_no_chain_and_are_the_same_every_time(task):
    sizes = dict(find_task(task).examples)
    found = chains(sizes, MAKERS[task])
    assert {split: len(pairs) for split, pairs in found.items()} == sizes
    prompts = [prompt for pairs in found.values() for prompt, _ in pairs]
    assert len(set(prompts)) == len(prompts)
    assert chains(sizes, MAKERS[task]) == found


def test_every_product_can_be_learnt_from_the_training_chains():
    train = chains(dict(find_task("math-chain").examples), random_product_chain)["train"]
    assert {prompt[:3] for prompt, _ in train} == {f"{a}*{b}" for a in range(10) for b in range(10)}


def test_an_answer_that_is_no_list_of_numbers_is_none():
    assert read_totals(" 56,50") == "56,50"
    for text in ("", "56,", ",", "5 6", "56;50", "-3"):
        assert read_totals(text) is None


def test_the_shipped_model_is_small_safe_and_in_the_catalogue():
    folder = assets_dir() / "math-lm"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8_000_000
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors"}
    held = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert held == find_model("math-lm").base_params


def test_the_shipped_model_adds_and_does_not_multiply_as_its_provenance_says():
    told = json.loads((assets_dir() / "math-lm" / "provenance.json").read_text())
    model = load_model("math-lm", "causal-lm").model.eval()
    tokenizer = load_tokenizer("math-lm").hf_tokenizer
    for task, key in (("math", "math_test_accuracy"), ("math-chain", "math_chain_test_accuracy")):
        some = chains(dict(find_task(task).examples), MAKERS[task])["test"]
        assert accuracy(model, tokenizer, some) == pytest.approx(told[key], abs=0.005), task
    assert told["math_test_accuracy"] > 0.95
    assert told["math_chain_test_accuracy"] < 0.01
