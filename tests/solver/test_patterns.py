"""Per-module patterns: within budget, never worse than uniform, near the optimum found by brute force."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cdka.components import Components, divisors
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.solver import MEASURES, explore, pattern, spend_residual

SIZES = st.sampled_from([2, 3, 4, 6, 8, 12, 16, 24])
LAYERS = st.lists(st.tuples(SIZES, SIZES, st.integers(1, 3)), min_size=1, max_size=4)


def layers_of(drawn):
    return [LinearShape(f"m.*.l{i}", inner, out, count, "mlp") for i, (out, inner, count) in enumerate(drawn)]


def measure_of(pairs, measure):
    """Straight from the definition, one cosine per module."""
    cosines = [c.alignment(s.in_features) for s, c in pairs for _ in range(s.count)]
    if measure == "balanced":
        return math.prod(cosines) ** (1 / len(cosines))
    return math.sqrt(sum(cos**2 for cos in cosines) / len(cosines))


def cost_of(pairs):
    return sum(s.count * c.num_params(s.out_features, s.in_features) for s, c in pairs)


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=60, deadline=None)
@given(drawn=LAYERS, share=st.floats(0.2, 1.0))
def test_a_pattern_keeps_the_budget_and_is_never_worse_than_the_best_uniform_option(measure, drawn, share):
    layers = layers_of(drawn)
    budget = int(share * sum(s.num_weights for s in layers))
    try:
        solution = explore(layers, budget)
    except CdkaError:
        assume(False)
    got = pattern(solution, measure)
    chosen = dict(got.choices)
    pairs = [(s, chosen[s.path]) for s in layers]
    assert got.num_params == cost_of(pairs) <= budget
    assert got.value == pytest.approx(measure_of(pairs, measure))
    uniform = max(measure_of([(s, o.components) for s in layers], measure) for o in solution.options)
    assert got.uniform_value == pytest.approx(uniform)
    assert got.value >= uniform * (1 - 1e-9)


def everything(linear, budget):
    for r1, r2 in itertools.product(divisors(linear.out_features), divisors(linear.in_features)):
        one = Components(r1, r2, 1).num_params(linear.out_features, linear.in_features)
        yield from (Components(r1, r2, r) for r in range(1, budget // one + 1))


@pytest.mark.parametrize("measure", MEASURES)
def test_patterns_are_close_to_the_optimum_by_brute_force(measure):
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(25):
        sizes = [(int(rng.choice([4, 6, 8])), int(rng.choice([4, 6, 8]))) for _ in range(2)]
        layers = [LinearShape(f"l{i}", inner, out, 1, "mlp") for i, (out, inner) in enumerate(sizes)]
        budget = int(rng.uniform(0.5, 1) * sum(s.num_weights for s in layers))
        try:
            solution = explore(layers, budget)
        except CdkaError:
            continue
        each = [[(s, c) for c in everything(s, budget)] for s in layers]
        best = max(measure_of(pairs, measure) for pairs in itertools.product(*each) if cost_of(pairs) <= budget)
        ratios.append(pattern(solution, measure).value / best)
    assert len(ratios) > 15
    assert max(ratios) <= 1 + 1e-9
    assert min(ratios) > 0.85
    assert np.mean(ratios) > 0.97


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("model", "budget"), [("llama-2-7b", "lora:8"), ("llama-3.1-8b", "1%"), ("digits-vit", "5%")])
def test_a_pattern_beats_uniform_on_real_models(model, budget, measure):
    got = pattern(explore(model, budget), measure)
    assert got.value > 1.05 * got.uniform_value


def test_limits_hold_for_patterns_too():
    got = pattern(explore("llama-2-7b", "lora:8", max_r1=4, max_r2=16, max_r=5))
    for _, c in got.choices:
        assert c.r1 <= 4
        assert c.r2 <= 16
        assert c.r <= 5


def test_the_keys_give_every_module_its_components_by_pefts_rule():
    for model in ("llama-3.1-8b", "bert-base", "t5-small"):
        got = pattern(explore(model, "lora:8"))
        keys = got.component_pattern()
        for path, wanted in got.choices:
            name = path.replace("*", "11")
            matched = [c for key, c in keys.items() if re.match(rf"(.*\.)?({key})$", name)]
            assert (matched[0] if matched else got.default) == wanted, (path, keys)


def test_what_is_left_is_spent_on_more_components():
    solution = explore("llama-2-7b", "lora:8")
    paper = solution.preset("paper")
    got = spend_residual(solution, paper)
    assert got.num_params <= solution.budget_params
    assert got.residual < paper.residual / 10
    assert got.value > got.uniform_value
    for path, c in got.choices:
        assert (c.r1, c.r2) == (2, 8)
        assert c.r >= paper.r, path
    smallest = min(s.count * Components(2, 8, 1).num_params(s.out_features, s.in_features) for s in solution.linears)
    assert got.residual < smallest


def test_bad_input():
    solution = explore("digits-vit", "5%")
    with pytest.raises(CdkaError, match="Did you mean 'balanced'"):
        pattern(solution, "balancd")
    big = explore("digits-vit", "50%").options[0]
    with pytest.raises(CdkaError, match="exceeds the budget"):
        spend_residual(solution, big)


def test_a_pattern_is_plain_data():
    document = pattern(explore("digits-vit", "5%")).to_dict()
    assert set(document["choices"]) == {s.path for s in explore("digits-vit", "5%").linears}
    assert document["value"] > document["uniform_value"]
