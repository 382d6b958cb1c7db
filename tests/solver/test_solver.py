"""The solver against brute force over every (r1, r2, r), on random shapes and budgets."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.solver import (
    OBJECTIVES,
    PRESETS,
    Option,
    check_fits,
    evaluate,
    explore,
    limiting_modules,
    obstacles,
    parse_weights,
    solve,
    why_this,
)
from cdka.solver.feasible import Columns
from cdka.solver.objectives import pareto_mask
from cdka.theory import ADAM_SHARE, combine, expected_step_alignment

SIZES = st.sampled_from([1, 2, 3, 5, 6, 7, 8, 12, 16, 24, 30, 36])
LAYERS = st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=4)


def brute_force(layers, budget):
    """Every configuration by trial division, its cost by counting the entries of A and B."""
    found = {}
    for r1 in range(1, 40):
        for r2 in range(1, 40):
            if any(out % r1 or inner % r2 for out, inner in layers):
                continue
            one = sum(out // r1 * r2 + r1 * (inner // r2) for out, inner in layers)
            for r in range(1, budget // one + 1):
                found[r1, r2, r] = r * one
    return found


@settings(max_examples=150, deadline=None)
@given(layers=LAYERS, share=st.floats(0.01, 1.0))
def test_no_option_exceeds_the_budget_and_none_is_missed(layers, share):
    full = sum(out * inner for out, inner in layers)
    budget = int(share * full)
    expected = brute_force(layers, budget)
    if not expected:
        with pytest.raises(CdkaError, match="budget"):
            solve(layers, budget)
        return
    options = solve(layers, budget)
    got = {(o.r1, o.r2, o.r): o.num_params for o in options}
    assert len(got) == len(options)
    assert got == expected
    for o in options:
        assert o.num_params <= budget
        assert o.residual == budget - o.num_params
        assert o.budget_used == o.num_params / budget


@settings(max_examples=60, deadline=None)
@given(layers=LAYERS, share=st.floats(0.05, 1.0))
def test_every_number_of_an_option_is_the_sum_over_layers(layers, share):
    full = sum(out * inner for out, inner in layers)
    assume(brute_force(layers, int(share * full)))
    for o in solve(layers, int(share * full))[:40]:
        c = o.components
        assert o.alignment == pytest.approx(math.sqrt(np.mean([c.alignment(inner) ** 2 for _, inner in layers])))
        assert o.rank_bound == sum(c.rank_bound(*layer) for layer in layers) // len(layers)
        assert o.flops_per_token == sum(c.flops_per_token(*layer) for layer in layers)
        assert o.flops_overhead == pytest.approx(o.flops_per_token / (2 * full))
        assert o.scaling == pytest.approx(c.scaling(64.0))
        assert o.optimizer_bytes == 8 * o.num_params
        assert o.adapter_bytes >= 4 * o.num_params


@settings(max_examples=60, deadline=None)
@given(layers=LAYERS, share=st.floats(0.05, 1.0))
def test_pareto_marks_are_those_of_pairwise_comparison(layers, share):
    budget = int(share * sum(out * inner for out, inner in layers))
    assume(0 < len(brute_force(layers, budget)) < 400)
    options = solve(layers, budget)
    values = [(-o.num_params, o.alignment, o.rank_bound) for o in options]
    for o, v in zip(options, values, strict=True):
        beaten = any(w != v and all(a >= b for a, b in zip(w, v, strict=True)) for w in values)
        assert o.pareto == (not beaten), o


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 6)), max_size=40))
def test_pareto_marks_with_many_ties_are_those_of_pairwise_comparison(rows):
    cost, alignment, rank = (np.array(column, dtype=float) for column in zip(*rows, strict=True)) if rows else [[]] * 3
    filler = {name: np.ones(len(rows)) for name in ("r1", "r2", "r", "flops_per_token", "export_rank")}
    columns = Columns(
        num_params=np.asarray(cost), rank_bound=np.asarray(rank), alignment=np.asarray(alignment), **filler
    )
    marks = pareto_mask(columns)
    values = [(-p, a, k) for p, a, k in rows]
    for value, mark in zip(values, marks, strict=True):
        beaten = any(w != value and all(a >= b for a, b in zip(w, value, strict=True)) for w in values)
        assert mark == (not beaten), value


@settings(max_examples=60, deadline=None)
@given(layers=LAYERS, share=st.floats(0.05, 1.0), rule=st.sampled_from(["nearest", "skip"]))
def test_indivisible_sizes_are_counted_layer_by_layer(layers, share, rule):
    """Against the definition: every pair that fits some layer, each layer with what ``Components.fitted`` gives it."""
    full = sum(out * inner for out, inner in layers)
    budget = int(share * full)
    outs, ins = ({size[axis] for size in layers} for axis in (0, 1))
    expected = {}
    for r1, r2 in product(*({d for n in sizes for d in range(1, n + 1) if n % d == 0} for sizes in (outs, ins))):
        for r in range(1, budget + 1):
            own = [(size, Components(r1, r2, r).fitted(*size, rule)) for size in layers]
            cost = sum(c.num_params(*size) for size, c in own if c)
            if not 0 < cost <= budget:
                break
            expected[r1, r2, r] = own
    assume(len(expected) < 500)
    if not expected:
        with pytest.raises(CdkaError, match="budget"):
            explore(layers, budget, indivisible=rule)
        return
    solution = explore(layers, budget, indivisible=rule)
    assert {o.components.as_tuple() for o in solution.options} == set(expected)
    for o in solution.options:
        own = expected[o.components.as_tuple()]
        assert [c for _, c in solution.fitted(o.components)] == [c for _, c in own]
        assert o.num_params == sum(c.num_params(*size) for size, c in own if c)
        assert o.flops_per_token == sum(c.flops_per_token(*size) for size, c in own if c)
        assert o.rank_bound == sum(c.rank_bound(*size) for size, c in own if c) // len(layers)
        assert o.alignment == pytest.approx(combine(c.alignment(size[1]) if c else 0.0 for size, c in own))
        assert o.export_rank == max(min(c.r * c.r1 * c.r2, *size) for size, c in own if c)
        assert evaluate(layers, o.components, budget=budget, indivisible=rule).num_params == o.num_params


def test_rows_can_be_built_without_the_others():
    solution = explore("llama-2-7b", "1%")
    rows = [0, 7, len(solution) - 1, 7]
    assert solution.at(rows) == [solution.options[row] for row in rows]
    assert solution.at([]) == []


@settings(max_examples=40, deadline=None)
@given(layers=LAYERS, rank=st.integers(1, 12))
def test_a_lora_budget_is_spent_exactly_by_lora(layers, rank):
    assume(rank * sum(a + b for a, b in layers) <= sum(a * b for a, b in layers))
    solution = explore(layers, f"lora:{rank}")
    lora = solution.preset("lora")
    assert lora.components == Components(1, 1, rank)
    assert lora.residual == 0
    assert lora.is_lora


@settings(max_examples=40, deadline=None)
@given(
    layers=LAYERS,
    share=st.floats(0.05, 1.0),
    weights=st.dictionaries(st.sampled_from(sorted(OBJECTIVES)), st.floats(0.1, 5), min_size=1),
)
def test_weighted_scores_rank_between_zero_and_one(layers, share, weights):
    budget = int(share * sum(a * b for a, b in layers))
    assume(brute_force(layers, budget))
    got = solve(layers, budget, weights=weights)
    marks = [o.score for o in got]
    assert marks == sorted(marks, reverse=True)
    assert all(-1e-9 <= mark <= 1 + 1e-9 for mark in marks)
    if len(weights) == 1:
        (name,) = weights
        objective = OBJECTIVES[name]
        best = [objective.sign * getattr(o, objective.column) for o in got]
        assert best == sorted(best, reverse=True)


def test_options_that_align_equally_are_ordered_by_arithmetic_not_by_rank():
    options = solve("digits-vit", "10%")
    keys = [(-o.alignment, o.flops_per_token, -o.rank_bound, o.num_params) for o in options]
    assert keys == sorted(keys)


def test_limits_are_kept_and_nothing_else_is_lost():
    free = solve("digits-vit", "10%")
    limited = solve("digits-vit", "10%", max_r1=4, max_r2=16, max_r=3)
    assert set(o.components for o in limited) == {o.components for o in free if o.r1 <= 4 and o.r2 <= 16 and o.r <= 3}


def test_paper_default_on_digits_counts_by_hand():
    option = evaluate("digits-vit", "2,8,4")
    assert option.num_params == 4 * 4 * (4 * (8 * 64 + 2 * 16) + (8 * 128 + 2 * 16) + (8 * 64 + 2 * 32))
    assert option.budget_used == option.num_params / 524_288
    assert option.scaling == pytest.approx(64 / math.sqrt(32))


def test_shapes_names_pairs_and_layers_are_all_models():
    shapes = find_model("digits-vit")
    by_name = solve("digits-vit", 30_000)
    assert solve(shapes, 30_000) == by_name
    body = [s for s in shapes.linears if s.role != "head"]
    assert [o.components for o in solve(body, 30_000)] == [o.components for o in by_name]
    pairs = [(s.out_features, s.in_features) for s in body for _ in range(s.count)]
    again = solve(pairs, 30_000)
    assert [(o.components, o.num_params, o.alignment, o.rank_bound) for o in again] == [
        (o.components, o.num_params, o.alignment, o.rank_bound) for o in by_name
    ]


def test_presets_follow_their_rule_and_mark_their_option():
    solution = explore("llama-2-7b", "lora:16")
    picked = solution.presets()
    assert set(picked) <= set(PRESETS)
    paper = picked["paper"]
    assert (paper.r1, paper.r2) == (2, 8)
    assert paper.residual < paper.num_params // paper.r  # one more component would not fit
    assert picked["alignment"].alignment == max(o.alignment for o in solution.options)
    near = [o for o in solution.options if o.alignment >= 0.9 * picked["alignment"].alignment]
    assert picked["rank"].rank_bound == max(o.rank_bound for o in near)
    assert picked["light"].flops_per_token == min(o.flops_per_token for o in near)
    assert picked["four-to-one"].r2 == 4 * picked["four-to-one"].r1
    for name, option in picked.items():
        assert name in option.presets
        assert solution.find(option.components) == option
    assert solution.top(5) == solution.options[:5]


def test_a_guideline_that_does_not_fit_is_absent_rather_than_bent():
    solution = explore([(7, 11), (14, 11)], 60)
    assert solution.preset("paper") is None
    assert solution.preset("lora") is not None
    with pytest.raises(CdkaError, match="Did you mean 'paper'"):
        solution.preset("papr")


def test_prime_dimensions_leave_only_one_and_the_prime():
    solution = explore([(13, 17)], 13 * 17)
    assert solution.r1_values == (1, 13)
    assert solution.r2_values == (1, 17)


def test_why_this_is_three_sentences_with_the_numbers_of_the_option():
    solution = explore("llama-2-7b", "lora:8")
    for option in [*solution.presets().values(), *solution.options[:20]]:
        text = why_this(option, solution)
        assert text.count(". ") == 2, text
        assert text.endswith(".")
        assert f"{option.num_params:,}" in text
        inputs = [s.in_features for s in solution.linears for _ in range(s.count)]
        step = combine(expected_step_alignment(option.components, n) for n in inputs)
        assert f"plain gradient step is expected to align {step:.3f} with" in text
        assert f"aligns about {ADAM_SHARE * step:.3f}" in text
        assert step <= option.alignment
        assert str(option.components) in text
        assert f"rank {option.rank_bound:,}" in text or "same rank" in text, text
    paper = why_this(solution.preset("paper"), solution)
    assert "Against LoRA of rank 8" in paper
    assert "aligns 1.2 times as well (LoRA: 0.042) and can reach rank 48 instead of 8" in paper


def test_why_this_tells_equal_worse_and_too_dear_apart():
    digits = explore("digits-vit", "lora:4")
    assert "aligns as well (0.167) and can reach rank 16 instead of 4" in why_this(
        digits.find(Components(2, 8, 1)), digits
    )
    assert "the best that fits." in why_this(digits.preset("alignment"), digits)
    worse = why_this(digits.find(Components(2, 2, 1)), digits)
    assert "aligns less well (LoRA: 0.167)" in worse
    dear = why_this(evaluate("digits-vit", "2,8,4", budget="lora:4"), digits)
    assert dear.startswith("2,8,4 costs 2.1 times the budget")
    assert "the best that fits, 1,2,3, reaches 0.203" in dear  # not called the best itself


def test_an_option_is_plain_data():
    option = solve("digits-vit", "5%")[0]
    assert isinstance(option, Option)
    document = option.to_dict()
    assert {"r1", "r2", "r", "num_params", "budget_used", "rank_bound", "alignment", "flops_overhead"} <= set(document)
    assert isinstance(document["presets"], list)
    with pytest.raises(AttributeError):
        option.r1 = 3


def test_obstacles_name_every_module_and_the_nearest_values_that_fit_all():
    linears = find_model("digits-vit").linears[:6]
    found = obstacles(linears, Components(3, 6, 1))
    assert [o.name for o in found] == ["r1", "r2"]
    assert found[0].nearest == (2, 4)
    assert found[1].nearest == (4, 8)
    assert len(found[0].modules) == 6
    with pytest.raises(CdkaError, match=r"r1 must divide out_features.*Nearest that fit: 2 or 4.*r2 must divide"):
        check_fits(linears, Components(3, 6, 1))
    assert "out_features=128 in 'q_proj', 'k_proj', 'v_proj' and " in str(found[0])
    assert obstacles(linears, Components(2, 8, 4)) == []


def test_a_value_beyond_every_layer_points_to_the_largest_that_fits():
    (found,) = obstacles([LinearShape("a", 8, 24, 1, "mlp"), LinearShape("b", 8, 36, 1, "mlp")], Components(50, 1, 1))
    assert found.nearest == (12,)


def test_the_module_that_narrows_the_choice_is_named():
    linears = [LinearShape("wide", 64, 64, 1, "mlp"), LinearShape("odd", 64, 6, 1, "mlp")]
    assert limiting_modules(linears) == [
        "wide limits r1 to 2 (out_features = 64); without it r1 could be up to 6.",
        "odd limits r1 to 2 (out_features = 6); without it r1 could be up to 64.",
    ]
    assert limiting_modules(linears[:1]) == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: solve("digits-vit", 10), r"smallest option, 7,168 parameters with \(1,1,1\)"),
        (lambda: solve("digits-vit", "200%"), "at most full fine-tuning of the target modules, 524,288"),
        (lambda: solve("digits-vit", 0), "positive"),
        (lambda: solve("digits-vit", "5%", max_r1=0), "max_r1 must be a positive integer"),
        (lambda: solve("digits-vit", "5%", max_r=2.5), "max_r must be a positive integer"),
        (lambda: solve("digits-vit", "5%", alpha=-1), "alpha must be a positive number"),
        (lambda: solve("digits-vit", "5%", scaling_rule="sqrt"), "scaling rule"),
        (lambda: solve("digits-vit", "5%", weights={"aligment": 1}), "Did you mean 'alignment'"),
        (lambda: solve("digits-vit", "5%", weights={"rank": -1}), "at least 0"),
        (lambda: solve("digits-vit", "5%", weights={"rank": 0}), "above 0"),
        (lambda: parse_weights("rank:1"), "name=number"),
        (lambda: solve("digits-vit", "5%", target_modules="fc9"), "Did you mean 'fc"),
        (lambda: solve("digit-vit", "5%"), "Did you mean 'digits-vit'"),
        (lambda: solve([], 5), "needs linear layers"),
        (lambda: solve([(8, 0)], 5), "a layer is"),
        (lambda: solve([(8, 2, 3)], 5), "a layer is"),
        (lambda: solve(ModelShapes("conv", None, "", "other", 9, ()), 5), "needs linear layers"),
        (lambda: evaluate("digits-vit", (3, 8, 1)), "Nearest that fit: 2 or 4"),
        (lambda: evaluate("digits-vit", (1, 1, 0)), "r must be a positive integer"),
    ],
)
def test_bad_input_is_one_line_with_a_next_step(call, words):
    with pytest.raises(CdkaError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_huge_limit_costs_nothing():
    assert len(solve("digits-vit", "5%", max_r=10**12)) == len(solve("digits-vit", "5%"))
