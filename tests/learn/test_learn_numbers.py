"""No figure has its own maths: every number of the course is compared with the library."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))
from compare_store import fill

from app.learn import evidence, live, toy
from app.learn.alignment import numbers as alignment
from app.learn.alignment.first_step import first_step
from app.learn.chapters import CHAPTERS
from app.learn.choice.figures import RATIOS, measured_gain, pair, rates_row, same_price
from app.learn.contest import arms as contest_arms
from app.learn.counting import chapter as counting_chapter
from app.learn.counting import figures as counting
from app.learn.drawing import ellipse_svg
from app.learn.evidence import ceiling
from app.learn.gradient import real_gradient
from app.learn.kronecker import numbers as kron
from app.learn.kronecker.chapter import CHAPTER as ONE
from app.learn.lora import figures
from app.learn.lora import figures as lora_figures
from app.learn.press.press import directions
from app.learn.scoring import score
from app.learn.stability import figures as stability
from app.learn.toy import Training
from cdka.claims.catalogue import STUDIES
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED, Finding
from cdka.components import Components
from cdka.cost import adapter as cost
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.sweep.pack import pack
from cdka.theory import (
    delta_weight,
    first_step_rms,
    measured_alignment,
    numerical_rank,
    rearrange,
    report,
    simulated_gradient,
)
from cdka.theory.alignment import STEPS

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
        for step in alignment.STEPS.values():
            rises, falls = (
                alignment.sweep((0.5, 128), seed, c, "r2", step)["measured"],
                alignment.sweep((0.5, 128), seed, c, "r1", step)["measured"],
            )
            assert all(np.diff(rises) > 0)
            assert all(np.diff(falls) < 0)
    G = alignment.gradient((0.0, 4), 0)
    assert numerical_rank(G.astype(float), 1e-5) == 4
    lora, other = report(G, Components(1, 1, 4)), report(G, Components(2, 8, 4))
    assert lora.best == pytest.approx(1.0)
    assert lora.measured_mean < 0.3
    assert other.best < 0.7 * lora.best, "with a start from the gradient, LoRA catches most where its rank is low"
    for fall in alignment.FALLS:  # "the dots barely move"
        for rank in (4, 16, 128):
            measured = alignment.sweep((fall, rank), 0, Components(2, 8, 4), "r")["measured"][2]
            assert measured == pytest.approx(Components(2, 8, 4).alignment(128), rel=0.2)


def test_adams_first_step_aligns_less_and_in_the_same_order():
    settings = [Components(*c) for c in ((8, 4, 4), (1, 1, 8), (2, 8, 4), (2, 16, 4))]
    plain, signs = (
        [alignment.measure((0.5, 128), 0, c, step).mean() for c in settings] for step in ("gradient", "adam")
    )
    assert all(0.5 * a < b < 0.9 * a for a, b in zip(plain, signs, strict=True))
    assert np.argsort(plain).tolist() == np.argsort(signs).tolist()


def test_the_first_step_is_drawn_as_the_library_takes_it():
    G = real_gradient().values
    for c, step in itertools.product((Components(2, 4, 1), Components(4, 4, 4), Components(1, 1, 3)), STEPS):
        found = first_step(G, c.r1, c.r2, c.r, step, seed=5)
        assert found.cosine == pytest.approx(measured_alignment(G, c, rng=5, inits=1, step=step)[0], rel=1e-6)
        assert found.change == pytest.approx(found.B.T @ found.A)


def test_the_first_gradient_of_a_is_zero_and_that_of_b_is_r_of_g_times_a():
    """By finite differences of a loss with the gradient G at delta W = 0."""
    c, rng = Components(2, 4, 3), np.random.default_rng(0)
    G = rng.standard_normal((8, 12))
    A, B = rng.standard_normal((3, 2, 3)), np.zeros((3, 4, 4))

    def loss(A, B):
        return float(np.sum(G * delta_weight(A, B)))

    h = 1e-6
    for index in np.ndindex(A.shape):
        moved = A.copy()
        moved[index] += h
        assert loss(moved, B) == loss(A, B) == 0
    expected = (rearrange(G, c.r1, c.r2) @ A.reshape(3, -1).T).T.reshape(B.shape)
    for index in np.ndindex(B.shape):
        moved = B.copy()
        moved[index] += h
        assert loss(A, moved) / h == pytest.approx(expected[index], abs=1e-6)


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
                assert 2 / 3 < stability.growth(grow, r1, seed, "sqrt_r_r2", top=16, inputs="new inputs") < 1.7
        assert 1.5 < stability.growth("r and r2", 1, seed, "sqrt_r_r2") < 4  # the bend at the right end
        assert stability.growth("r and r2", 1, seed, "sqrt_r_r2", top=16, inputs="the training batch") > 2.3


def test_the_chapters_own_formula_earns_full_marks_in_chapter_5():
    """sqrt(terms) times the rule's factor, over every question of the exercise that 60 seeds ask."""
    full = 0
    for seed in range(60):
        question = CHAPTERS[4].question(seed, {"seed": seed})
        grow, rule, top, _ = question.draw
        last = stability.configuration(grow, top, stability.ASKED_R1)
        formula = (last.r * last.r2) ** 0.5 * last.scaling(1.0, rule)
        full += score(question, float(f"{formula:.3g}"), question.answer()).points == 3
    assert full >= 57


def test_the_ceiling_of_chapter_7_is_the_ratio_of_predicted_alignments_at_equal_price():
    for r1, r2 in itertools.product((1, 2, 4, 8), repeat=2):
        mine, lora = same_price(r1, r2)
        assert mine.num_params(4096, 4096) == lora.num_params(4096, 4096)
        ratio = mine.alignment(10**6) / lora.alignment(10**6)
        assert ratio == pytest.approx(ceiling(r1, r2), rel=1e-9)
        assert ratio < 2**0.5
    for ratio in RATIOS:
        assert measured_gain(*pair(ratio)) == pytest.approx(ceiling(*pair(ratio)), rel=0.05)
    assert 0.96 < ceiling(2, 8) / 2**0.5 < 1, "nearly all of it"


def test_chapter_7_shows_the_numbers_of_the_shipped_reports():
    shown = {(e.finding.study, e.finding.claim, e.finding.regime): e for e in evidence.findings()}
    reports = {}
    for path, document in evidence.shipped():
        for study in document["studies"]:
            for entry in study["findings"]:
                key = (study["study"], entry["claim"], entry["regime"])
                reports.setdefault(key, []).append((entry["n"], path.stem, entry["effect"]))
    assert shown
    withdrawn = {
        path.stem for path, _ in evidence.shipped() if "Withdrawn as stated" in path.read_text(encoding="utf-8")
    }
    assert withdrawn == {"alignment", "equal-budget", "stabilisation"}
    assert not withdrawn & {found.report for found in shown.values()}
    for key, found in shown.items():
        most = max(n for n, _, _ in reports[key])
        assert (found.finding.n, found.report, found.finding.effect) in reports[key]
        assert found.finding.n == most, "the report with the most seeds"
        assert found.finding.study != "vision", "made of the runs of another report"
    for name, arms in evidence.rate_studies().items():
        text = next(path for path, _ in evidence.shipped() if path.stem == name).read_text(encoding="utf-8")
        for arm in arms:
            assert f"{arm.design} · lr {arm.lr:g} |" in text
            assert f"| {arm.mean:.3f} |" in text
    assert evidence.rate_studies(), "a shipped report has designs at several rates"


RATES = "At equal cost and alignment CDKA trains at more rates than LoRA."


@pytest.mark.parametrize(
    ("verdict", "method"), [(SUPPORTED, "CDKA"), (UNRESOLVED, "either"), (CONTRADICTED, "LoRA"), (None, "CDKA")]
)
def test_the_course_follows_the_study_of_rates_once_its_report_ships(monkeypatch, verdict, method):
    assert RATES in [claim.text for claim in STUDIES["rates"].claims]
    finding = Finding(
        "rates", "eight rates", verdict, "doublings", 1.5, 0.5, 2.5, 5, "m", "", RATES, counted="base model"
    )
    shown = (evidence.Evidence(finding, "rates", "digits-vit", "digits-flip", ""),) if verdict else ()
    monkeypatch.setattr(evidence, "findings", lambda: shown)
    take, _, basis, sure = rates_row()
    assert take == method
    told = evidence.over_bases_html()
    if verdict is None:
        assert "one base model" in sure
        assert "is open" in told
    else:
        assert "+1.500 [+0.500, +2.500], 5 bases" in basis
        assert f"{RATES} doublings: +1.500 [+0.500, +2.500], 5 bases, <b>{verdict}</b>" in told


def test_curves_of_a_withdrawn_report_say_why():
    assert evidence.withdrawn("equal-budget").startswith("The search was too coarse for LoRA")
    assert evidence.withdrawn("bases") == ""


def test_the_tiny_network_has_the_gradients_of_its_loss():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 64)), np.array([0, 3, 9, 1, 1])
    training = Training(Components(4, 8, 2), seed=1)
    training.B = rng.standard_normal(training.B.shape) * 0.1
    _, of_a, of_b = training.slopes(x, y)
    h = 1e-6
    for array, slope in ((training.A, of_a), (training.B, of_b)):
        for index in ((0, 0, 0), (1, 2, 3)):
            before = array[index]
            array[index] = before + h
            above = training.slopes(x, y)[0]
            array[index] = before - h
            below = training.slopes(x, y)[0]
            array[index] = before
            assert (above - below) / (2 * h) == pytest.approx(slope[index], rel=1e-4, abs=1e-7)


def test_the_tiny_network_learns_and_starts_from_a_base_that_reads_upright_digits():
    W, head = toy.base()
    upright, shifted = toy.data(False), toy.data(True)
    assert toy.accuracy(upright.x_valid, upright.y_valid, W, head) > 0.9
    assert toy.accuracy(shifted.x_valid, shifted.y_valid, W, head) < 0.3
    training = Training(Components(4, 16, 8), lr=0.01)
    training.step(60)
    again = Training(Components(4, 16, 8), lr=0.01)
    again.step(60)
    assert training.accuracies == again.accuracies, "the same seed, the same training"
    assert training.accuracies[-1] > 0.7
    assert [step for step, _ in training.measured()] == [0, 60]


def test_the_factor_is_a_smaller_rate_for_the_first_change_of_the_tiny_network():
    """Chapter 5: without the factor the first change of W is that of a rate sqrt(r r2) times larger."""
    c, lr = Components(4, 16, 8), 0.001
    changes = []
    for rule, rate in (("sqrt_r_r2", lr * (c.r * c.r2) ** 0.5), ("none", lr)):
        training = Training(c, rule=rule, lr=rate)
        A = training.A.copy()
        training.step()
        changes.append(training.scaling * delta_weight(A, training.B))
    np.testing.assert_allclose(changes[0], changes[1], atol=1e-5 * np.abs(changes[1]).max() * 100)


def test_turning_the_direction_of_the_press_gives_the_cosine_of_its_two_ends():
    G = real_gradient().values
    for c in (Components(2, 4, 1), Components(1, 1, 4), Components(2, 8, 2), Components(8, 1, 1)):
        found = directions(c)
        R = rearrange(G, c.r1, c.r2)
        assert np.linalg.norm(R @ found.best.T) / np.linalg.norm(R) == pytest.approx(found.caught_best, rel=1e-6)
        for turned in (0.3, 1.0):
            a = np.cos(turned) * found.random + np.sin(turned) * found.best
            if not np.allclose(found.random @ found.best.T, 0):  # no room for random directions outside the best
                continue
            np.testing.assert_allclose(a @ a.T, np.eye(len(a)), atol=1e-9)
            cosine = np.linalg.norm(R @ a.T) / np.linalg.norm(R)
            squares = np.cos(turned) ** 2 * found.caught_random**2 + np.sin(turned) ** 2 * found.caught_best**2
            assert cosine == pytest.approx(squares**0.5, rel=1e-5)
        mean = float(np.sqrt(np.mean(found.darts**2)))
        assert mean == pytest.approx(found.predicted, rel=0.25), "the darts gather around the formula"


def test_the_pattern_of_u_and_v_is_the_adapter():
    for c in (Components(2, 4, 2), Components(1, 1, 3), Components(4, 2, 1)):
        U, V = figures.pattern_factors(c)
        rng = np.random.default_rng(1)
        (shape_a, shape_b) = c.shapes(figures.PATTERN_OUT, figures.PATTERN_IN)
        B, A = rng.standard_normal(shape_b), rng.standard_normal(shape_a)
        as_numbers = lambda entries, values: np.concatenate([[0.0], values.ravel()])[entries]  # noqa: E731
        np.testing.assert_allclose(as_numbers(U, B) @ as_numbers(V, A), delta_weight(A, B), atol=1e-12)
        assert len(set(U[U > 0])) + len(set(V[V > 0])) == c.num_params(figures.PATTERN_OUT, figures.PATTERN_IN)
        assert U.shape[1] == c.r * c.r1 * c.r2


def test_the_cheapest_full_rank_of_chapter_2_is_found():
    best = lora_figures.cheapest_full_rank()
    assert (best.num_params(48, 64), best.rank_bound(48, 64)) == (112, 48)
    assert Components(8, 8, 1).num_params(48, 64) == 112, "the sliders of the page reach that price"


def test_the_ellipse_of_chapter_1_has_the_singular_values_as_half_axes():
    B = np.array(VALUES["B"])
    first, second = kron.stretches(VALUES)
    turn = np.linspace(0, 2 * np.pi, 2000)
    lengths = np.linalg.norm(B @ np.array([np.cos(turn), np.sin(turn)]), axis=0)
    assert (lengths.max(), lengths.min()) == (pytest.approx(first, rel=1e-4), pytest.approx(second, rel=1e-4))
    drawing = ellipse_svg(B)
    assert f"first: {first:.2f}" in drawing
    assert f"matrix({B[0, 0]:.4f},{-B[1, 0]:.4f},{-B[0, 1]:.4f},{B[1, 1]:.4f},0,0)" in drawing


def test_answers_are_the_librarys():
    for seed in range(12):
        one = ONE.question(seed, {})
        row, column = one.draw["pick"]
        assert one.answer() == np.kron(one.draw["B"], one.draw["A"])[row, column] != 0
        two = CHAPTERS[1].question(seed, {})
        c = Components(two.draw["r1"], two.draw["r2"], two.draw["r"])
        assert two.answer() == c.rank_bound(48, 64) == numerical_rank(lora_figures.delta(c, seed))
        three = CHAPTERS[2].question(seed, {})
        c = Components(three.draw["r1"], three.draw["r2"], three.draw["r"])
        assert three.answer() == cost.num_params(select(find_model(three.draw["model"])), c) / 1e6
        assert str(three.answer())[:3] in three.explain(three.answer())


def test_the_best_aligned_candidate_is_clearly_the_best():
    for seed in range(12):
        question = CHAPTERS[3].question(seed, {})
        G = alignment.gradient(question.draw["spectrum"], seed)
        means = sorted(
            measured_alignment(G, c, rng=seed, inits=alignment.MANY_INITS).mean() for c in question.draw["candidates"]
        )
        assert means[-1] > 1.15 * means[-2]
        assert question.answer() in question.choices
        prices = [c.num_params(128, 128) for c in question.draw["candidates"]]
        assert max(prices) < 1.15 * min(prices)


def test_the_contest_keeps_to_its_budget_and_its_twin_to_price_and_rank():
    for budget in ("lora:2", "lora:4"):  # at lora:1 nothing but r1 = r2 fits
        mine, twin, lora = contest_arms.contest(budget, Components(4, 8, 1), question=2)
        limit = contest_arms.solution(budget).budget_params
        assert all(arm.option.num_params <= limit for arm in (mine, twin, lora))
        assert lora.option.num_params == limit
        assert (mine.option.num_params, mine.option.rank_bound) == (twin.option.num_params, twin.option.rank_bound)
        assert twin.option.alignment == pytest.approx(mine.option.alignment / 2)
        assert {spec.seed for spec in (*mine.specs, *twin.specs, *lora.specs)} == {6, 7, 8}
        assert len({spec.lr for spec in lora.specs}) == 3
        recipe = {k: v for k, v in mine.specs[0].to_dict().items() if k not in ("components", "seed", "lr")}
        for spec in (*mine.specs, *twin.specs, *lora.specs):
            assert {k: v for k, v in spec.to_dict().items() if k not in ("components", "seed", "lr")} == recipe
        numbers, _ = pack([spec for arm in (mine, twin, lora) for spec in arm.specs])
        assert set(numbers) == {0}, "all train in one pack"
    assert len(contest_arms.contest("lora:4", Components(4, 4, 1))) == 2, "r1 = r2 has no twin"
    with pytest.raises(CdkaError, match="at most 7,168 parameters: got"):
        contest_arms.contest("lora:1", Components(1, 8, 4))


def test_only_the_largest_budget_of_the_contest_has_more_alignment_than_lora():
    for budget in contest_arms.BUDGETS:
        found = contest_arms.solution(budget)
        more = float(np.max(found.columns.alignment)) > 1.01 * found.preset("lora").alignment
        assert more == (budget == "lora:4")


def test_a_bet_is_judged_by_the_interval_over_seeds(home, monkeypatch):
    from app import data

    values = {**CHAPTERS[5].defaults, "seed": 0}
    arms = contest_arms.contest("lora:4", Components(8, 16, 3), 0)
    specs = [spec for arm in arms for spec in arm.specs]
    fill(data.store(), "contest", specs, adapters=False)
    question = CHAPTERS[5].question(0, values)
    found = contest_arms.results(data.store(), arms, live.find(data.store(), specs))
    inside = contest_arms.difference(found, contest_arms.TWIN)
    assert question.answer() == round(inside.mean, 1)
    assert question.points(inside.mean, question.answer()) == 3
    assert question.points(inside.mean + 0.9 * max(1.0, inside.high - inside.mean), question.answer()) >= 2
    assert question.points(-50.0 if inside.mean > 0 else 50.0, question.answer()) == 0
    assert f"{question.answer():+.1f} points" in question.explain(question.answer())
    lora = found[contest_arms.LORA]
    last = contest_arms._last_validation(data.store(), [run.run_id for run in live.find(data.store(), specs)])
    by_rate = {}
    for run in live.find(data.store(), specs[6:]):
        by_rate.setdefault(run.spec.lr, []).append(last[run.run_id])
    assert lora.lr == max(by_rate, key=lambda lr: np.mean(by_rate[lr])), "chosen on validation, not on test digits"


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
    with_, without = stability.outcome(store, named).split("\n\n")
    assert with_.startswith("**With** the run is **stable**")
    assert without.startswith("**Without** the run **diverges**")
    assert stability.outcome(store, named[:1]) == ""
