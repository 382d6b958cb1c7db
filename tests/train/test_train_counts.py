"""Parameters of a run before anything is loaded: patterns are read as PEFT reads them, misfits are told at once."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from cdka.cost.adapter import count_params
from cdka.cost.memory import run_memory
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import peft_targets
from cdka.runs.resolve import ResolvedRun, adapted_layers
from cdka.runs.spec import RunSpec
from cdka.tasks.catalogue import find_task
from cdka.train.load_model import load_model
from cdka.train.methods import peft_config

SHAPES = find_model("digits-vit")


def spec(**changes) -> RunSpec:
    return RunSpec("digits-vit", "digits-flip", **changes)


def resolved(one, shapes=SHAPES):
    return ResolvedRun(one, shapes, find_task(one.task), adapted_layers(one, shapes))


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        {"q_proj": (1, 1, 1)},
        {"fc1": (4, 16, 2), "v_proj": (2, 2, 3)},
        {r"layers\.0\.attention\.q_proj": (1, 1, 1)},
        {r"vit\.layers\.[12]\..*": (4, 4, 1), "fc2": (1, 1, 1)},
        {r"^vit\.layers\.3\.mlp\.fc1": (8, 8, 1)},
    ],
    ids=str,
)
def test_a_pattern_counts_what_peft_allocates(pattern):
    one = spec(component_pattern=pattern)
    model = load_model("digits-vit", "image-classification", dtype=torch.float32, num_labels=10).model
    adapted = get_peft_model(model, peft_config(one, peft_targets(SHAPES, one.target_modules), []))
    assert count_params(resolved(one)) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("rule", ["skip", "nearest"])
@pytest.mark.parametrize(
    ("components", "pattern"), [((2, 256, 1), {}), ((2, 8, 1), {"fc1": (256, 8, 2), "fc2": (3, 2, 1)})]
)
def test_modules_that_do_not_divide_are_counted_as_peft_allocates_them(components, pattern, rule):
    one = spec(components=components, component_pattern=pattern, indivisible=rule)
    model = load_model("digits-vit", "image-classification", dtype=torch.float32, num_labels=10).model
    with pytest.warns(RuntimeWarning, match=f"indivisible='{rule}'"):
        adapted = get_peft_model(model, peft_config(one, peft_targets(SHAPES, one.target_modules), []))
    run = resolved(one)
    assert count_params(run) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    places = {layer.linear.name: layer.components.as_tuple() for layer in run.layers}
    adapters = {
        n.split(".")[-1]: m.components["default"].as_tuple() for n, m in adapted.named_modules() if hasattr(m, "cdka_A")
    }
    assert places == adapters
    assert run_memory(run).total_bytes > 0


def test_layers_under_a_second_index_are_counted_once():
    shapes = find_model("t5-small")
    everywhere = count_params(resolved(spec(), shapes))
    key = r"decoder\.block\.3\.layer\.0\.SelfAttention\.q"
    less = spec().components.num_params(512, 512) - 2 * 512
    assert count_params(resolved(spec(component_pattern={key: (1, 1, 1)}), shapes)) == everywhere - less


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"component_pattern": {"q_pro": (1, 1, 1)}}, "unknown module 'q_pro' in component_pattern. Did you mean"),
        ({"component_pattern": {"(": (1, 1, 1)}}, "keyed by names or regular expressions: got '('"),
        (
            {"components": (3, 8, 4)},
            "r1 must divide out_features: got r1=3, out_features=128. Nearest divisors: 2 or 4. "
            "In 'q_proj', 'k_proj', 'v_proj', 'o_proj', 'fc2'. r1 must divide",
        ),
        ({"components": (3, 8, 4), "indivisible": "skip"}, "r1 must divide out_features: got r1=3, out_features=128."),
        ({"indivisible": "leave"}, "indivisible must be one of error, skip, nearest: got 'leave'."),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    with pytest.raises(CdkaError) as caught:
        resolved(spec(**changes))
    assert words in str(caught.value)
