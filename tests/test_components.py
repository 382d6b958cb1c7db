"""Counts and bounds of one layer against explicitly built matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdka.components import Components, divisors, nearest_divisors, scaling
from cdka.errors import CdkaError

OUT, IN = 24, 64


def explicit(components, rng):
    (a_shape, b_shape) = components.shapes(OUT, IN)
    A, B = rng.standard_normal(a_shape), rng.standard_normal(b_shape)
    return A, B, sum(np.kron(b, a) for a, b in zip(A, B, strict=True))


@pytest.mark.parametrize("text", ["1,1,1", "2,8,4", "3,4,2", "24,64,1", "1,64,2", "8,2,3", "4,1,2"])
def test_counts_shapes_and_rank_are_those_of_the_matrices(text):
    components = Components.parse(text)
    A, B, delta = explicit(components, np.random.default_rng(0))
    assert delta.shape == (OUT, IN)
    assert components.num_params(OUT, IN) == A.size + B.size
    assert np.linalg.matrix_rank(delta) == components.rank_bound(OUT, IN)


@given(st.integers(1, 5000))
def test_divisors_are_all_and_only_the_divisors(n):
    assert divisors(n) == tuple(d for d in range(1, n + 1) if n % d == 0)


def test_nearest_divisors_lie_on_both_sides():
    assert nearest_divisors(768, 5) == (4, 6)
    assert nearest_divisors(7, 3) == (1, 7)
    assert nearest_divisors(8, 100) == (8,)
    assert nearest_divisors(8, 4) == (4,)


def test_a_misfit_names_dimension_layer_and_neighbours():
    with pytest.raises(CdkaError) as refusal:
        Components(5, 3, 4).check(768, 64, "q_proj")
    assert str(refusal.value) == (
        "r1 must divide out_features: got r1=5, out_features=768 in 'q_proj'. Nearest divisors: 4 or 6. "
        "r2 must divide in_features: got r2=3, in_features=64 in 'q_proj'. Nearest divisors: 2 or 4."
    )


def test_one_one_r_is_lora():
    lora = Components(1, 1, 8)
    assert lora.num_params(OUT, IN) == 8 * (OUT + IN)
    assert lora.rank_bound(OUT, IN) == 8
    assert lora.scaling(16.0) == 16.0 / math.sqrt(8)


def test_scaling_rules():
    assert scaling(64, 8, 4) == 64 / math.sqrt(32)
    assert [scaling(64, 8, 4, rule) for rule in ("sqrt_r", "r", "none")] == [32, 16, 64]
    with pytest.raises(CdkaError, match="scaling rule must be one of"):
        scaling(64, 8, 4, "sqrt")


def test_flops_count_both_factor_products():
    c = Components(2, 8, 4)
    first = 2 * c.r2 * (c.r * c.r1) * (IN // c.r2)  # T = X A^T: (r2, in/r2) x (in/r2, r r1)
    second = 2 * (OUT // c.r1) * (c.r * c.r2) * c.r1  # B T: (out/r1, r r2) x (r r2, r1)
    assert c.flops_per_token(OUT, IN) == first + second


@pytest.mark.parametrize("bad", ["", "1,2", "a,b,c", "1,2,3,4", "1.5,2,3", (1, 2), None, 7])
def test_components_need_three_integers(bad):
    with pytest.raises(CdkaError, match="three integers"):
        Components.parse(bad)
