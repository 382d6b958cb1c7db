"""The cosine between CDKA's first step and full fine-tuning's: predicted, measured on a gradient, best possible.

With ``N = r1 * in / r2`` and A the (r, N) matrix of the flattened A_i, the first gradient step from B = 0 moves
R(delta W) along ``R(G) A^T A``; full fine-tuning moves along R(G). Everything below compares these two. (ours)

Three kinds of step have three cosines. The projection of R(G) on the span of A has ``predicted_alignment``; the plain
gradient step has ``expected_step_alignment``, a few per cent less at usual budgets and far less near 1; the step of
Adam, which moves by the gradient's signs, has about ``ADAM_SHARE`` of the plain one's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.theory.rearrange import rearrange

STEPS = ("gradient", "projection", "adam")
"""Kinds of first step: plain gradient descent; the best step within the span of the A_i; Adam's signs
(compared with the signs of full fine-tuning)."""

ADAM_SHARE = 0.58
"""Alignment of Adam's first step as a share of the plain gradient step's: the median of 168 cells on the gradients of
digits-vit (ours). The order of configurations stays, rank correlation 0.995. For a Gaussian gradient it is 2 / pi."""


def predicted_alignment(components: Components, in_features: int) -> float:
    """sqrt(r r2 / (r1 in)), at most 1: the root mean square cosine of the projected step. (ours)"""
    return components.alignment(in_features)


def expected_step_alignment(components: Components, in_features: int) -> float:
    """sqrt((r N + 0.8) / (N (N + r - 0.2))) with N = r1 in / r2: the cosine of the plain gradient step. (ours)

    For a gradient without structure cos^2 is tr(A^T A)^2 / (N tr((A^T A)^2)); this is the ratio of the exact moments of
    both for the uniform A of the initialisation (0.8 is its kurtosis minus 1). ``predicted_alignment`` neglects that
    the A_i are not orthogonal; the two agree while r is small beside N.
    """
    width, r = components.r1 * in_features / components.r2, components.r
    return min(1.0, math.sqrt((r * width + 0.8) / (width * (width + r - 0.2))))


def measured_alignment(
    G: np.ndarray, components: Components, rng: np.random.Generator | int = 0, inits: int = 8, step: str = "gradient"
) -> np.ndarray:
    """The cosine between CDKA's first step and full fine-tuning's, one per random initialisation: shape (inits,).

    ``G`` is the gradient of one layer (out, in); ``step`` is one of STEPS; an integer ``rng`` is a seed.
    """
    return alignment_curve(G, components.r1, components.r2, [components.r], rng, inits, step)[:, 0]


def alignment_curve(
    G: np.ndarray,
    r1: int,
    r2: int,
    r_values: Sequence[int],
    rng: np.random.Generator | int = 0,
    inits: int = 8,
    step: str = "gradient",
) -> np.ndarray:
    """Measured alignment for several r at once: shape (inits, len(r_values)).

    The A_i of a smaller r are the first ones of a larger r, so one product R(G) A^T serves all r.
    """
    if step not in STEPS:
        raise CdkaError(f"step must be one of {', '.join(STEPS)}: got {step!r}.")
    if inits < 1 or not r_values or min(r_values) < 1:
        raise CdkaError(f"alignment needs inits >= 1 and r >= 1: got inits={inits}, r={list(r_values)}.")
    rng = np.random.default_rng(rng)
    R = rearrange(np.asarray(G, dtype=np.float64 if G.dtype == np.float64 else np.float32), r1, r2)
    target = np.sign(R) if step == "adam" else R
    norm = float(np.linalg.norm(target))
    result = np.zeros((inits, len(r_values)))
    if norm == 0.0:  # a layer without gradient: nothing to align with
        return result
    for row in range(inits):
        A = rng.uniform(-1.0, 1.0, size=(max(r_values), R.shape[1]))  # the scale cancels in a cosine
        if step == "projection":
            # Orthonormal rows that span A_1..A_i for every i; a Gram matrix would be singular where r > N.
            basis = np.linalg.qr(A.T)[0].astype(R.dtype)  # (N, min(r, N))
            captured = np.cumsum(np.square(R @ basis, dtype=np.float64).sum(axis=0))
            result[row] = np.sqrt([captured[min(r, len(captured)) - 1] for r in r_values]) / norm
            continue
        A = A.astype(R.dtype)
        moves = R @ A.T
        if step == "adam":
            moves = np.sign(moves)
        overlap = moves.T @ (moves if step != "adam" else target @ A.T)
        energy, gram = moves.T @ moves, A @ A.T
        for column, r in enumerate(r_values):
            length = math.sqrt(max(float(np.sum(energy[:r, :r] * gram[:r, :r])), 0.0))
            result[row, column] = float(np.trace(overlap[:r, :r])) / (length * norm) if length else 0.0
    return np.clip(result, -1.0, 1.0)


EXACT_LIMIT = 512
"""Up to this smaller dimension every singular value is computed; beyond it, the leading ones where they suffice."""


def capture_curve(G: np.ndarray, r1: int, r2: int, max_components: int | None = None) -> np.ndarray:
    """Best possible alignment for r = 1, 2, ...: sqrt(sum_{i<=r} s_i^2 / sum s_i^2), s the singular values of R(G).

    An upper bound over every choice of the A_i, and what a gradient-based initialisation gets. With
    ``max_components``, a large R(G) is reduced to that many leading directions by subspace iteration; the result, of
    that length, is then slightly too low (well below 1 % on spectra that decay).
    """
    R = rearrange(np.asarray(G), r1, r2)
    small = R if R.shape[0] <= R.shape[1] else R.T
    if max_components is not None and len(small) > max(EXACT_LIMIT, 4 * max_components):
        return _leading_capture(small, max_components)
    gram = (small @ small.T).astype(np.float64)  # eigenvalues of the smaller Gram matrix: all that is needed
    energy = np.clip(np.linalg.eigvalsh(gram)[::-1], 0.0, None)
    total = energy.sum()
    return np.sqrt(np.cumsum(energy) / total) if total > 0 else np.zeros(len(energy))


def _leading_capture(M: np.ndarray, max_components: int, rounds: int = 4) -> np.ndarray:
    """Capture of the leading directions of a wide matrix, by randomised subspace iteration with a fixed seed."""
    total = float(np.sum(np.square(M, dtype=np.float64)))
    if total == 0:
        return np.zeros(max_components)
    basis = np.random.default_rng(0).standard_normal((M.shape[0], max_components + 16)).astype(M.dtype)
    for _ in range(rounds):
        basis = np.linalg.qr(M @ (M.T @ basis))[0]
    values = np.linalg.svd(basis.T @ M, compute_uv=False)[:max_components].astype(np.float64)
    return np.sqrt(np.cumsum(values**2) / total)


def best_capture(G: np.ndarray, components: Components) -> float:
    """The largest alignment that any A_i could have with G for these components (see ``capture_curve``)."""
    curve = capture_curve(G, components.r1, components.r2)
    return float(min(1.0, curve[min(components.r, len(curve)) - 1]))


def combine(alignments: Iterable[float], energies: Iterable[float] | None = None) -> float:
    """Alignment over several modules: the square root of the weighted mean of squares.

    cos^2 adds up by gradient energy (the squared norm of each module's gradient). Without ``energies`` every
    module weighs the same, which is what the solver does before a gradient is known. (ours)
    """
    squares = np.square(np.asarray(list(alignments), dtype=float))
    weights = np.ones_like(squares) if energies is None else np.asarray(list(energies), dtype=float)
    return float(np.sqrt(np.sum(weights * squares) / weights.sum())) if weights.sum() > 0 else 0.0


@dataclass(frozen=True)
class AlignmentReport:
    """Predicted, measured and best possible alignment of one configuration on one gradient."""

    components: Components
    predicted: float
    expected_step: float
    measured_mean: float
    measured_sd: float
    inits: int
    best: float


def report(
    G: np.ndarray, components: Components, rng: np.random.Generator | int = 0, inits: int = 8
) -> AlignmentReport:
    """Predicted, measured and best alignment of one configuration on one layer's gradient (out, in)."""
    values = measured_alignment(G, components, rng, inits)
    return AlignmentReport(
        components=components,
        predicted=predicted_alignment(components, G.shape[1]),
        expected_step=expected_step_alignment(components, G.shape[1]),
        measured_mean=float(values.mean()),
        measured_sd=float(values.std(ddof=1)) if inits > 1 else 0.0,
        inits=inits,
        best=best_capture(G, components),
    )
