"""The rearrangement R of Van Loan and Pitsianis: a sum of Kronecker products becomes a low-rank matrix."""

from __future__ import annotations

import numpy as np

from cdka.components import Components
from cdka.errors import CdkaError


def rearrange(G: np.ndarray, r1: int, r2: int) -> np.ndarray:
    """R(G) of shape (out * r2 / r1, r1 * in / r2), for G of shape (out, in).

    Row (i, j) and column (k, l) of R(G) hold ``G[i * r1 + k, j * in / r2 + l]``, so that
    ``R(kron(B, A)) = vec(B) vec(A)^T`` for B (out/r1, r2) and A (r1, in/r2), vec being row by row. Raises CdkaError
    where r1 does not divide out or r2 does not divide in. Source: Van Loan and Pitsianis (1993).
    """
    if G.ndim != 2:
        raise CdkaError(f"a gradient must be a matrix (out, in): got shape {G.shape}. Pass one layer at a time.")
    out_features, in_features = G.shape
    Components(r1, r2, 1).check(out_features, in_features)
    blocks = G.reshape(out_features // r1, r1, r2, in_features // r2)
    return blocks.transpose(0, 2, 1, 3).reshape(out_features * r2 // r1, r1 * in_features // r2)


def unrearrange(M: np.ndarray, out_features: int, in_features: int, r1: int, r2: int) -> np.ndarray:
    """The matrix G (out, in) with ``rearrange(G, r1, r2) == M``. Raises CdkaError where the shapes disagree."""
    Components(r1, r2, 1).check(out_features, in_features)
    expected = (out_features * r2 // r1, r1 * in_features // r2)
    if M.shape != expected:
        raise CdkaError(f"R(G) must have shape {expected} for ({out_features}, {in_features}): got {M.shape}.")
    blocks = M.reshape(out_features // r1, r2, r1, in_features // r2)
    return blocks.transpose(0, 2, 1, 3).reshape(out_features, in_features)


def delta_weight(A: np.ndarray, B: np.ndarray, scaling: float = 1.0) -> np.ndarray:
    """``scaling * sum_i kron(B_i, A_i)`` as one (out, in) matrix.

    Shapes: A (r, r1, in/r2), B (r, out/r1, r2). Meant for looking at small layers; training builds it in
    packs over small layers alone (``adapter.stacked``).
    """
    if A.ndim != 3 or B.ndim != 3 or len(A) != len(B):
        raise CdkaError(f"A must be (r, r1, in/r2) and B (r, out/r1, r2): got {A.shape} and {B.shape}.")
    blocks = np.einsum("cij,ckl->ikjl", B, A, optimize=True)
    rows, r1, r2, columns = blocks.shape
    return scaling * blocks.reshape(rows * r1, r2 * columns)


def kaiming_components(components: Components, in_features: int, rng: np.random.Generator) -> np.ndarray:
    """Initial A of shape (r, r1, in/r2): uniform on +-1/sqrt(fan-in), fan-in = in/r2 (Kaiming with a = sqrt(5))."""
    fan_in = in_features // components.r2
    bound = 1.0 / np.sqrt(fan_in)
    return rng.uniform(-bound, bound, size=(components.r, components.r1, fan_in))
