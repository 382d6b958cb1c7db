"""Components per module from a gradient: within the budget, never worse than uniform, and where the energy is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cdka.align.gradient_pattern import gradient_pattern, measure_pattern
from cdka.cli.main import main
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.runs.resolve import resolve_run, spec_for
from cdka.solver import explore
from cdka.theory.alignment import best_capture, combine
from cdka.theory.rearrange import delta_weight

SHAPES = [
    LinearShape(path="net.*.wide", out_features=24, in_features=16, count=2, role="mlp"),
    LinearShape(path="head", out_features=12, in_features=20, count=1, role="mlp"),
]


def gradients(seed=0, scale=(1.0, 1.0, 1.0)):
    rng = np.random.default_rng(seed)
    sizes = {"net.0.wide": (24, 16), "net.1.wide": (24, 16), "head": (12, 20)}
    return {path: s * rng.standard_normal(size) for (path, size), s in zip(sizes.items(), scale, strict=True)}


def kronecker(components, out_features, in_features, seed=0):
    """A gradient that these components capture whole."""
    rng = np.random.default_rng(seed)
    r1, r2, r = components.as_tuple()
    A = rng.standard_normal((r, r1, in_features // r2))
    return delta_weight(A, rng.standard_normal((r, out_features // r1, r2)))


def reached(found, held, measure):
    captures = [best_capture(held[path], components) for path, components in found.choices]
    if measure == "balanced":
        return float(np.exp(np.mean(np.log(captures))))
    return combine(captures, [np.sum(held[path] ** 2) for path, _ in found.choices])


@pytest.mark.parametrize("measure", ["overall", "balanced"])
@pytest.mark.parametrize("seed", range(3))
def test_it_stays_within_the_budget_and_is_never_worse_than_the_advice_everywhere(measure, seed):
    held = gradients(seed, scale=(3.0, 0.3, 1.0))
    solution = explore(SHAPES, 400)
    found = gradient_pattern(solution, held, measure)
    spent = sum(c.num_params(*held[path].shape) for path, c in found.choices)
    assert found.num_params == spent <= 400
    assert found.value == pytest.approx(reached(found, held, measure))
    same = replace(found, choices=tuple((path, found.uniform.components) for path, _ in found.choices))
    assert found.uniform_value == pytest.approx(reached(same, held, measure))
    assert found.value >= found.uniform_value
    assert [path for path, _ in found.choices] == ["net.0.wide", "net.1.wide", "head"]


def test_a_gradient_of_known_components_gets_these():
    """Each module's gradient is one Kronecker product: the pattern captures all of it, no uniform choice does."""
    true = {"net.0.wide": Components(2, 4, 1), "net.1.wide": Components(8, 2, 1), "head": Components(3, 5, 1)}
    sizes = {"net.0.wide": (24, 16), "net.1.wide": (24, 16), "head": (12, 20)}
    held = {path: kronecker(c, *sizes[path], seed=i) for i, (path, c) in enumerate(true.items())}
    cost = sum(c.num_params(*sizes[path]) for path, c in true.items())
    found = gradient_pattern(explore(SHAPES, 2 * cost), held)
    assert found.value == pytest.approx(1.0)
    assert found.uniform_value < 0.999
    # A product with finer blocks holds it too, and may cost less: what counts is that each captures its module whole.
    assert all(best_capture(held[path], c) == pytest.approx(1.0) for path, c in found.choices)


def test_the_budget_follows_the_energy_overall_and_not_when_balanced():
    held = gradients(scale=(100.0, 1.0, 1.0))
    share = {}
    for measure in ("overall", "balanced"):
        found = dict(gradient_pattern(explore(SHAPES, 400), held, measure).choices)
        share[measure] = found["net.0.wide"].num_params(24, 16) / found["net.1.wide"].num_params(24, 16)
    assert share["overall"] > 2 > share["balanced"]


def test_a_kind_of_which_some_gradients_were_not_held_gets_one_choice():
    held = gradients()
    held.pop("net.1.wide")
    found = gradient_pattern(explore(SHAPES, 400), held)
    assert [path for path, _ in found.choices] == ["net.*.wide", "head"]
    assert found.num_params <= 400
    held.pop("head")
    with pytest.raises(CdkaError, match="no gradient was measured on 'head'"):
        gradient_pattern(explore(SHAPES, 400), held)


def test_gradients_that_cannot_be_used_are_refused():
    with pytest.raises(CdkaError, match="every gradient is zero"):
        gradient_pattern(explore(SHAPES, 400), {path: 0 * g for path, g in gradients().items()})
    with pytest.raises(CdkaError, match="unknown measure 'most'"):
        gradient_pattern(explore(SHAPES, 400), gradients(), "most")


def test_measured_on_the_embedded_model_it_can_be_trained_as_it_is_printed(home, capsys):
    command = ["solve", "digits-vit", "--budget", "lora:2", "--from-gradients"]
    assert main(command) == 2
    assert "--from-gradients measures the gradient on a task: got none" in capsys.readouterr().err
    assert main([*command, "--task", "digits-flip", "--batches", "1", "--max-r1", "4", "--max-r2", "4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["from_gradients"]
    assert len(document["choices"]) == 24
    assert document["value"] > document["uniform_value"]
    found = measure_pattern("digits-vit", "digits-flip", "lora:2", batches=1, limits={"max_r1": 4, "max_r2": 4})
    assert found.to_dict() == {key: document[key] for key in found.to_dict()}, "the gradients are kept"
    run = resolve_run(
        spec_for("digits-vit", "digits-flip", components=found.default, component_pattern=found.component_pattern())
    )
    spent = sum(
        layer.count * layer.components.num_params(layer.linear.out_features, layer.linear.in_features)
        for layer in run.layers
    )
    assert spent == found.num_params <= found.budget_params
    assert document["run"].startswith(f"cdka run --model digits-vit --task digits-flip --components {found.default}")
