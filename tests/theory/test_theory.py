"""Oracles: explicit Kronecker products, explicit projections, seeded Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.theory import (
    ADAM_SHARE,
    alignment_curve,
    best_capture,
    capture_curve,
    combine,
    delta_weight,
    effective_rank,
    expected_step_alignment,
    factored_forward,
    kaiming_components,
    measured_alignment,
    numerical_rank,
    predicted_alignment,
    rearrange,
    report,
    simulated_gradient,
    spectrum_values,
    stability_experiment,
    stable_rank,
    unrearrange,
)

OUT, IN = 24, 64
SOME = [Components(1, 1, 3), Components(2, 8, 4), Components(3, 4, 2), Components(8, 2, 5)]


def random_factors(components: Components, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    a_shape, b_shape = components.shapes(OUT, IN)
    return rng.standard_normal(a_shape), rng.standard_normal(b_shape)


@pytest.mark.parametrize("components", SOME, ids=str)
def test_delta_weight_is_the_sum_of_kronecker_products(components):
    A, B = random_factors(components, np.random.default_rng(1))
    expected = 0.7 * sum(np.kron(b, a) for a, b in zip(A, B, strict=True))
    np.testing.assert_allclose(delta_weight(A, B, 0.7), expected, atol=1e-12)


@pytest.mark.parametrize("components", SOME, ids=str)
def test_rearranged_kronecker_product_is_an_outer_product_and_comes_back(components):
    A, B = random_factors(components, np.random.default_rng(2))
    outer = sum(np.outer(b, a) for a, b in zip(A, B, strict=True))
    rearranged = rearrange(delta_weight(A, B), components.r1, components.r2)
    np.testing.assert_allclose(rearranged, outer, atol=1e-12)
    G = np.random.default_rng(3).standard_normal((OUT, IN))
    M = rearrange(G, components.r1, components.r2)
    np.testing.assert_array_equal(unrearrange(M, OUT, IN, components.r1, components.r2), G)


@pytest.mark.parametrize("components", SOME, ids=str)
def test_factored_forward_is_the_matrix_product(components):
    rng = np.random.default_rng(4)
    A, B = random_factors(components, rng)
    x = rng.standard_normal((5, IN))
    np.testing.assert_allclose(factored_forward(x, A, B), x @ delta_weight(A, B).T, atol=1e-12)


def explicit_cosine(G, A, components, step):
    """The first step built in full: B moves along its true gradient, delta W is assembled with kron."""
    moves = []
    for a in A:
        blocks = G.reshape(OUT // components.r1, components.r1, components.r2, IN // components.r2)
        moves.append(np.einsum("ikjl,kl->ij", blocks, a))  # d<G, kron(B, a)>/dB
    B = np.stack(moves)
    target = G
    if step == "adam":
        B, target = np.sign(B), np.sign(G)
    if step == "projection":
        span = np.linalg.qr(A.reshape(len(A), -1).T)[0]
        R = rearrange(G, components.r1, components.r2)
        return np.linalg.norm(R @ span) / np.linalg.norm(R)
    change = delta_weight(A, B)
    return np.sum(change * target) / np.linalg.norm(change) / np.linalg.norm(target)


@pytest.mark.parametrize("step", ["gradient", "projection", "adam"])
@pytest.mark.parametrize("components", SOME, ids=str)
def test_measured_alignment_equals_the_step_built_in_full(components, step):
    G = simulated_gradient(OUT, IN, 5)
    got = measured_alignment(G, components, 6, inits=2, step=step)
    rng = np.random.default_rng(6)
    width = components.r1 * IN // components.r2
    for value in got:
        A = rng.uniform(-1.0, 1.0, size=(components.r, width)).reshape(components.r, components.r1, -1)
        assert value == pytest.approx(explicit_cosine(G, A, components, step), abs=1e-10)


def test_one_call_for_many_r_agrees_with_separate_explicit_prefixes():
    G = simulated_gradient(OUT, IN, 7)
    curve = alignment_curve(G, 2, 8, [1, 2, 4], rng=8, inits=1)
    A = np.random.default_rng(8).uniform(-1.0, 1.0, size=(4, 16)).reshape(4, 2, 8)
    for column, r in enumerate([1, 2, 4]):
        assert curve[0, column] == pytest.approx(explicit_cosine(G, A[:r], Components(2, 8, r), "gradient"), abs=1e-10)


@pytest.mark.parametrize("c", [(1, 1, 8), (2, 8, 4), (2, 4, 4), (8, 4, 4), (2, 16, 4)])
def test_predictions_hold_on_average_within_three_percent(c):
    components = Components(*c)
    G = simulated_gradient(128, 128, 9)
    projected = measured_alignment(G, components, 10, inits=400, step="projection")
    assert np.sqrt(np.mean(projected**2)) == pytest.approx(predicted_alignment(components, 128), rel=0.03)
    stepped = measured_alignment(G, components, 11, inits=400)
    assert stepped.mean() == pytest.approx(expected_step_alignment(components, 128), rel=0.03)


@pytest.mark.parametrize(("N", "r"), [(1, 1), (2, 1), (2, 2), (4, 8), (16, 3), (16, 16), (64, 4)])
def test_the_plain_steps_expectation_is_right_from_the_smallest_space_on(N, r):
    """sqrt(r / (N + r)) gave 0.707 where the space has one dimension and the cosine is 1."""
    A = np.random.default_rng(N + r).uniform(-1, 1, size=(4000, r, N))
    G = np.random.default_rng(1).standard_normal((60, N))
    moves = G @ np.swapaxes(A, 1, 2) @ A
    cosines = np.sum(moves * G, axis=(1, 2)) / np.linalg.norm(moves, axis=(1, 2)) / np.linalg.norm(G)
    predicted = expected_step_alignment(Components(1, 1, r), N)
    assert np.sqrt(np.mean(cosines**2)) == pytest.approx(predicted, rel=0.04)
    if r == 1:
        assert predicted == pytest.approx(1 / np.sqrt(N))


@pytest.mark.parametrize("c", [(1, 64, 4), (1, 64, 8), (2, 64, 8), (1, 32, 8)])
def test_the_projection_of_a_float32_gradient_is_whole_where_the_span_is(c):
    """A singular float32 Gram matrix gave 0 to 1 at random where r is above N."""
    G = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    components = Components(*c)
    assert components.r > components.r1 * 64 // components.r2
    np.testing.assert_allclose(measured_alignment(G, components, 0, step="projection"), 1.0, atol=1e-6)


def test_adams_first_step_aligns_about_six_tenths_of_the_plain_one():
    G = np.random.default_rng(2).standard_normal((128, 128))
    for c in (Components(1, 1, 8), Components(2, 8, 4), Components(4, 8, 2)):
        plain, adam = (measured_alignment(G, c, 3, inits=40, step=step).mean() for step in ("gradient", "adam"))
        assert adam / plain == pytest.approx(2 / np.pi, abs=0.05)
    assert abs(ADAM_SHARE - 2 / np.pi) < 0.06


def test_more_r2_or_r_aligns_better_and_more_r1_worse():
    G = simulated_gradient(128, 128, 12)
    mean = lambda *c: measured_alignment(G, Components(*c), 13, inits=50).mean()  # noqa: E731
    assert mean(2, 2, 2) < mean(2, 4, 2) < mean(2, 8, 2)
    assert mean(1, 4, 2) > mean(2, 4, 2) > mean(4, 4, 2)
    gains = np.diff([mean(2, 4, r) for r in (1, 2, 3, 4)])
    assert (gains > 0).all()
    assert gains[0] > gains[-1]


@pytest.mark.parametrize("components", SOME, ids=str)
def test_best_capture_is_reached_by_the_svd_and_beaten_by_nobody(components):
    G = simulated_gradient(OUT, IN, 14)
    R = rearrange(G, components.r1, components.r2)
    right = np.linalg.svd(R)[2][: components.r]
    reached = np.linalg.norm(R @ right.T) / np.linalg.norm(R)
    assert best_capture(G, components) == pytest.approx(reached, abs=1e-10)
    assert measured_alignment(G, components, 15, inits=200, step="projection").max() < best_capture(G, components)


def test_full_rank_of_components_captures_everything():
    G = simulated_gradient(OUT, IN, 16)
    assert best_capture(G, Components(8, 2, 500)) == pytest.approx(1.0)


def test_a_layer_without_gradient_has_no_alignment_rather_than_nan():
    G = np.zeros((OUT, IN))
    assert measured_alignment(G, Components(2, 8, 4)).tolist() == [0.0] * 8
    assert best_capture(G, Components(2, 8, 4)) == 0.0


def test_combining_modules_is_the_cosine_of_the_joined_vectors():
    rng = np.random.default_rng(17)
    gradients = [rng.standard_normal(50), 3 * rng.standard_normal(30)]
    parts = [np.where(rng.random(len(g)) < 0.4, g, 0) for g in gradients]  # projections on some coordinates
    joined = np.concatenate(parts) @ np.concatenate(gradients)
    joined /= np.linalg.norm(np.concatenate(parts)) * np.linalg.norm(np.concatenate(gradients))
    cosines = [p @ g / np.linalg.norm(p) / np.linalg.norm(g) for p, g in zip(parts, gradients, strict=True)]
    assert combine(cosines, [g @ g for g in gradients]) == pytest.approx(joined)
    assert combine([0.3, 0.4]) == pytest.approx(np.sqrt(0.125))


def test_ranks_of_known_spectra():
    flat = simulated_gradient(OUT, IN, 18, kind="low_rank", decay=5)
    assert effective_rank(flat) == pytest.approx(5)
    assert stable_rank(flat) == pytest.approx(5)
    assert numerical_rank(flat) == 5
    steep = np.diag([2.0, 1.0])
    assert stable_rank(steep) == pytest.approx(1.25)
    shares = np.array([2 / 3, 1 / 3])
    assert effective_rank(steep) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))
    assert effective_rank(np.zeros((3, 4))) == stable_rank(np.zeros((3, 4))) == 0.0


@pytest.mark.parametrize(("kind", "decay"), [("power", 1.5), ("exponential", 0.2), ("flat", 0)])
def test_simulated_gradient_has_the_spectrum_asked_for(kind, decay):
    values = np.linalg.svd(simulated_gradient(OUT, IN, 19, kind, decay), compute_uv=False)
    np.testing.assert_allclose(values, spectrum_values(OUT, kind, decay), atol=1e-12)


def test_rank_of_delta_weight_reaches_its_bound():
    components = Components(2, 8, 4)
    rng = np.random.default_rng(20)
    a_shape, b_shape = components.shapes(96, 64)
    change = delta_weight(rng.standard_normal(a_shape), rng.standard_normal(b_shape))
    assert numerical_rank(change) == components.rank_bound(96, 64) == 64


def test_only_the_papers_scaling_keeps_the_first_step_the_same_size():
    spread = {}
    for row in stability_experiment():
        spread.setdefault(row.rule, []).append(row.output_rms)
    paper = np.array(spread["sqrt_r_r2"])
    np.testing.assert_allclose(paper, 1e-3 / np.sqrt(3), rtol=0.25)
    for rule in ("sqrt_r", "r", "none"):
        assert max(spread[rule]) / min(spread[rule]) > 5, rule


def test_initial_components_have_the_variance_of_kaiming_uniform():
    A = kaiming_components(Components(4, 8, 16), 512, np.random.default_rng(21))
    assert A.shape == (16, 4, 64)
    assert A.var() == pytest.approx(1 / (3 * 64), rel=0.05)
    assert np.abs(A).max() <= 1 / 8


def test_a_report_holds_every_measure():
    got = report(simulated_gradient(OUT, IN, 22), Components(2, 8, 2), 23)
    assert 0 < got.measured_mean < got.best <= 1
    assert got.measured_sd > 0
    assert got.inits == 8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rearrange(np.zeros((OUT, IN)), 5, 2), "r1 must divide out_features"),
        (lambda: rearrange(np.zeros((2, OUT, IN)), 1, 1), "matrix"),
        (lambda: unrearrange(np.zeros((3, 3)), OUT, IN, 2, 8), "must have shape"),
        (lambda: measured_alignment(np.zeros((OUT, IN)), Components(1, 1, 1), inits=0), "inits"),
        (lambda: measured_alignment(np.zeros((OUT, IN)), Components(1, 1, 1), step="sgd"), "step must be one of"),
        (lambda: spectrum_values(4, "linear"), "spectrum must be one of"),
        (lambda: simulated_gradient(3, 4, values=np.ones(5)), "at most"),
    ],
)
def test_bad_input_is_told_in_words(call, words):
    with pytest.raises(CdkaError, match=words):
        call()


def test_the_leading_capture_of_a_large_gradient_agrees_with_the_full_decomposition():
    G = simulated_gradient(640, 576, 24)
    full = capture_curve(G, 1, 1)
    leading = capture_curve(G, 1, 1, max_components=4)
    assert len(leading) == 4
    np.testing.assert_allclose(leading, full[:4], rtol=0.005)
    assert (leading <= full[:4] + 1e-9).all()
