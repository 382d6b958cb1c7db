"""No figure has its own maths: every number of the course is compared with the library."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from app.learn.alignment import figures as alignment
from app.learn.chapters import CHAPTERS
from app.learn.contest import arms as contest_arms
from app.learn.counting import chapter as counting_chapter
from app.learn.counting import figures as counting
from app.learn.kronecker import numbers as kron
from app.learn.kronecker.chapter import CHAPTER as ONE
from app.learn.lora import figures as lora_figures
from app.learn.stability import figures as stability
from cdka.components import Components
from cdka.cost import adapter as cost
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.theory import first_step_rms, measured_alignment, numerical_rank, report, simulated_gradient

VALUES = {
    "B": ((1.5, -2.0), (0.5, 3.0)),
    "A": ((1.0, 0.0, 2.0), (-3.0, 1.0, -1.0)),
    "x": ((1.0, 0.5, 2.0, -1.0, 1.0, 3.0),),
}


def test_the_board_shows_the_kronecker_product():
    expected = np.kron(np.array(VALUES["B"]), np.array(VALUES["A"]))
    np.testing.assert_array_equal(kron.kron(VALUES), expected)
    for row, column in itertools.product(range(4), range(6)):
        (i, j), (k, m) = kron.parts(row, column)
        assert kron.entry(VALUES["B"], i, j) * kron.entry(VALUES["A"], k, m) == expected[row, column]


def test_the_steps_are_those_of_the_factored_forward():
    A, B, x = (np.array(VALUES[name]) for name in ("A", "B", "x"))
    found = kron.steps(VALUES)
    X = x.reshape(2, 3)
    np.testing.assert_allclose(found.X, X)
    np.testing.assert_allclose(found.T, X @ A.T)
    np.testing.assert_allclose(found.Y, B @ X @ A.T)
    np.testing.assert_allclose(found.y, (np.kron(B, A) @ x[0])[None])
    np.testing.assert_allclose(found.direct, found.y)


def test_ranks_multiply_on_the_board():
    singular = {**VALUES, "B": ((1.0, 2.0), (2.0, 4.0))}
    assert kron.ranks(VALUES) == (2, 2, 4)
    assert kron.ranks(singular) == (1, 2, 2)


@pytest.mark.parametrize("n", kron.SIZES)
def test_the_bars_count_multiplications_and_numbers(n):
    found = kron.cost(n)
    A, B = np.empty((2, n // 8)), np.empty((n // 2, 8))
    by_hand = 8 * (n // 8) * 2 + (n // 2) * 8 * 2  # X A^T: (8 x n/8)(n/8 x 2); B T: (n/2 x 8)(8 x 2)
    assert found.multiplications == by_hand
    assert (found.numbers, found.full) == (A.size + B.size, n * n)


def test_the_rank_in_chapter_2_is_that_of_the_shown_matrix():
    for r1, r2, r in itertools.product((1, 4, 16), (1, 8, 16), (1, 3)):
        c = Components(r1, r2, r)
        matrix = lora_figures.delta(c, seed=3)
        assert matrix.shape == (48, 64)
        assert lora_figures.measured_rank(c, 3) == np.linalg.matrix_rank(matrix) == c.rank_bound(48, 64)


def test_lora_of_equal_cost_is_the_largest_that_is_not_dearer():
    for c in (Components(1, 1, 4), Components(2, 8, 3), Components(16, 16, 1)):
        rank = lora_figures.lora_rank(c)
        assert rank * (48 + 64) <= c.num_params(48, 64) < (rank + 1) * (48 + 64)


@pytest.mark.parametrize("model", counting.MODELS)
def test_both_parts_add_up_to_the_count(model):
    linears = select(find_model(model), "all-linear")
    for c in (Components(2, 8, 4), Components(64, 1, 2), Components(64, 64, 16)):
        assert sum(counting.split(model, c)) == cost.num_params(linears, c)


def test_the_cheapest_r1_is_where_chapter_3_says():
    layer = counting.first_layer("t5-base")  # square: the smallest count is at r1 = r2
    counts = {r1: Components(r1, 8, 4).num_params(layer.out_features, layer.in_features) for r1 in counting.RANGE}
    assert min(counts, key=counts.get) == 8
    assert "=1" in counting_chapter._minimum({"model": "t5-base", "r1": 2, "r2": 8})


def test_equal_ratios_cost_the_same_and_are_marked_on_the_map():
    html = counting.count_map("llama-2-7b", Components(2, 8, 4))
    assert html.count('class="mine"') == 1
    # r2/r1 = 4 has four more places, and r2/r1 = 1/4 is another price on layers that are not square
    linears = counting.layers("llama-2-7b")
    same = [
        (r1, r2)
        for r1, r2 in itertools.product(counting.RANGE, repeat=2)
        if cost.num_params(linears, Components(r1, r2, 4)) == cost.num_params(linears, Components(2, 8, 4))
    ]
    assert html.count('class="same"') == len(same) - 1
    assert {(1, 4), (4, 16), (8, 32), (16, 64)} <= set(same)


def test_the_bill_comes_from_cost():
    model, c = "qwen2.5-0.5b", Components(2, 8, 4)
    linears = select(find_model(model), "all-linear")
    found = counting.bill(model, c)
    assert found.params == cost.num_params(linears, c)
    assert found.flops == cost.flops_per_token(linears, c)
    assert found.training_bytes == 16 * found.params
    assert found.file_bytes == cost.adapter_bytes(linears, found.params)


def test_the_curves_of_chapter_4_are_measured():
    c = Components(2, 8, 4)
    G = simulated_gradient(128, 128, 5, "power", 0.75).astype(np.float32)
    found = alignment.sweep((0.75, 128), 5, c, "r2")
    for position, r2 in enumerate(alignment.RANGE):
        expected = report(G, Components(2, r2, 4), rng=5, inits=alignment.INITS)
        assert found["measured"][position] == pytest.approx(expected.measured_mean, rel=1e-6)
        assert found["predicted"][position] == pytest.approx(expected.predicted, rel=1e-6)
        assert found["best"][position] == pytest.approx(expected.best, rel=1e-6)


def test_the_text_of_chapter_4_is_true_of_its_figure():
    c = Components(2, 4, 2)
    for seed in range(3):
        rises, falls = (
            alignment.sweep((0.5, 128), seed, c, "r2")["measured"],
            alignment.sweep((0.5, 128), seed, c, "r1")["measured"],
        )
        assert all(np.diff(rises) > 0)
        assert all(np.diff(falls) < 0)
    G = alignment.gradient((0.0, 4), 0)
    assert numerical_rank(G.astype(float), 1e-5) == 4
    lora = report(G, Components(1, 1, 4))
    assert lora.best == pytest.approx(1.0)
    assert lora.measured_mean < 0.3
    for fall in alignment.FALLS:  # "the dots barely move"
        for rank in (4, 16, 128):
            measured = alignment.sweep((fall, rank), 0, Components(2, 8, 4), "r")["measured"][2]
            assert measured == pytest.approx(Components(2, 8, 4).alignment(128), rel=0.2)


def test_the_sizes_of_chapter_5_are_those_of_single_steps():
    rng = np.random.default_rng(2)
    G = rng.standard_normal((512, 512), dtype=np.float32)
    found = stability.sizes("r and r2", 4, 2)
    for rule in ("none", "sqrt_r_r2"):
        step = first_step_rms(Components(4, 64, 64), 512, 512, rule=rule, rng=3, gradient=G)
        assert found[rule][-1] == pytest.approx(step.output_rms, rel=1e-5)


def test_the_text_of_chapter_5_is_true_of_its_figure():
    for seed in range(3):
        assert stability.growth("r", 1, seed, "none") > 6
        assert stability.growth("r", 1, seed, "r") < 1 / 5
        assert stability.growth("r2", 1, seed, "sqrt_r") > 5
        for r1 in (1, 16):
            for grow in stability.GROW:
                assert 2 / 3 < stability.growth(grow, r1, seed, "sqrt_r_r2", top=16) < 1.5
        assert 1.5 < stability.growth("r and r2", 1, seed, "sqrt_r_r2") < 4  # the bend at the right end


def test_answers_are_the_librarys():
    for seed in range(12):
        one = ONE.ask(seed, {})
        row, column = one.draw["pick"]
        assert one.answer() == np.kron(one.draw["B"], one.draw["A"])[row, column] != 0
        two = CHAPTERS[1].ask(seed, {})
        c = Components(two.draw["r1"], two.draw["r2"], two.draw["r"])
        assert two.answer() == c.rank_bound(48, 64) == numerical_rank(lora_figures.delta(c, seed))
        three = CHAPTERS[2].ask(seed, {})
        c = Components(three.draw["r1"], three.draw["r2"], three.draw["r"])
        assert three.answer() == cost.num_params(select(find_model(three.draw["model"])), c) / 1e6
        assert str(three.answer())[:3] in three.explain(three.answer())


def test_the_best_aligned_candidate_is_clearly_the_best():
    for seed in range(8):
        question = CHAPTERS[3].ask(seed, {})
        G = alignment.gradient(question.draw["spectrum"], seed)
        means = sorted(
            measured_alignment(G, c, rng=seed, inits=alignment.MANY_INITS).mean() for c in question.draw["candidates"]
        )
        assert means[-1] > 1.2 * means[-2]
        assert question.answer() in question.choices
        prices = [c.num_params(128, 128) for c in question.draw["candidates"]]
        assert max(prices) < 1.15 * min(prices)


def test_the_contest_keeps_to_its_budget():
    for budget in contest_arms.BUDGETS:
        contest = contest_arms.arms(budget, Components(4, 4, 1), seed=7)
        limit = contest_arms.solution(budget).budget_params
        assert all(arm.option.num_params <= limit for arm in contest)
        assert contest[2].option.num_params == limit
        assert {arm.spec.seed for arm in contest} == {7}
        different = [
            {k: v for k, v in arm.spec.to_dict().items() if k not in ("method", "components", "rank")}
            for arm in contest
        ]
        assert different[0] == different[1] == different[2]
    with pytest.raises(CdkaError, match="at most 7,168 parameters: got"):
        contest_arms.arms("lora:1", Components(1, 8, 4), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_real_run_of_chapter_5_diverges_without_the_factor_and_only_then(tmp_path, monkeypatch, seed):
    from cdka.engine.local import wait
    from cdka.runs.store import Store

    monkeypatch.setenv("CDKA_HOME", str(tmp_path))
    store = Store()
    run_ids = store.submit(list(stability.demo_specs(seed)))
    wait(store, run_ids)
    curves = store.curves(run_ids)
    right, losses = (
        [curves[(curves["kind"] == kind) & (curves["run_id"] == run_id)][column].dropna() for run_id in run_ids]
        for kind, column in (("eval", "eval/accuracy"), ("step", "train/loss"))
    )
    assert right[0].iloc[0] == right[1].iloc[0] > 0.9, "both begin with the same model"
    assert stability.guessing() == pytest.approx(2.303, abs=1e-3)
    assert losses[1].max() > 1.5 * stability.guessing()
    assert losses[1].iloc[-5:].mean() > 3 * losses[1].iloc[0], "and does not come back"
    assert right[1].min() < 0.3
    assert losses[0].max() < 1.0
    assert right[0].min() > 0.9
    named = [(name, store.run(run_id)) for name, run_id in zip(("with", "without"), run_ids, strict=True)]
    with_, without = stability.told(store, named).split("\n\n")
    assert with_.startswith("**With** the run is **stable**")
    assert without.startswith("**Without** the run **diverges**")
    assert stability.told(store, named[:1]) == ""
