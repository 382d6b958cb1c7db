"""``Factors``: delta W of one layer as a sum of Kronecker products, and what is exact to do with it. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdka.components import Components, divisors
from cdka.errors import CdkaError
from cdka.theory.rearrange import delta_weight, rearrange

SAME = 1e-12
"""Relative error below which two matrices count as equal in float64."""


@dataclass(frozen=True, eq=False)
class Factors:
    """``delta W = scaling * sum_i kron(B_i, A_i)``: A (r, r1, in/r2), B (r, out/r1, r2), float64.

    LoRA of rank r is the case r1 = r2 = 1. Raises CdkaError where the shapes do not belong together.
    """

    A: np.ndarray
    B: np.ndarray
    scaling: float = 1.0

    def __post_init__(self) -> None:
        if self.A.ndim != 3 or self.B.ndim != 3 or len(self.A) != len(self.B) or not self.A.size or not self.B.size:
            raise CdkaError(f"A must be (r, r1, in/r2) and B (r, out/r1, r2): got {self.A.shape} and {self.B.shape}.")

    @property
    def components(self) -> Components:
        """(r1, r2, r), read off the shapes."""
        return Components(self.A.shape[1], self.B.shape[2], self.A.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.B.shape[1] * self.A.shape[1], self.B.shape[2] * self.A.shape[2]

    @property
    def num_params(self) -> int:
        """Numbers in A and B."""
        return self.A.size + self.B.size

    @property
    def lora_rank(self) -> int:
        """The rank of the exact LoRA: r r1 r2, or the smaller side of the layer where that is less."""
        c = self.components
        return min(c.r * c.r1 * c.r2, *self.shape)

    def delta(self) -> np.ndarray:
        """delta W, (out, in)."""
        return delta_weight(self.A, self.B, self.scaling)

    def norm(self) -> float:
        """The Frobenius norm of delta W, without forming it."""
        A, B = self.A.reshape(len(self.A), -1), self.B.reshape(len(self.B), -1)
        return abs(self.scaling) * float(np.sqrt(max(np.sum((A @ A.T) * (B @ B.T)), 0.0)))

    def block_norms(self) -> np.ndarray:
        """The Frobenius norm of each r1 x (in / r2) block of delta W, (out / r1, r2), without forming it."""
        flat = self.A.reshape(len(self.A), -1)
        squares = np.einsum("ipq,ij,jpq->pq", self.B, flat @ flat.T, self.B)
        return abs(self.scaling) * np.sqrt(np.maximum(squares, 0.0))

    def lora(self) -> tuple[np.ndarray, np.ndarray]:
        """(lora_A (R, in), lora_B (out, R)) with ``lora_B @ lora_A`` equal to delta W, R = ``lora_rank``.

        ``kron(B, A) = kron(B, I) kron(I, A)`` (ours), the scaling shared between the two as its square root. Where
        r r1 r2 exceeds the smaller side of the layer, a singular value decomposition gives the same product at that
        rank.
        """
        (r1, r2, r), root = self.components.as_tuple(), abs(self.scaling) ** 0.5
        if r * r1 * r2 > min(self.shape):
            U, s, V = np.linalg.svd(self.delta(), full_matrices=False)
            return np.sqrt(s)[:, None] * V, U * np.sqrt(s)
        sign = root if self.scaling >= 0 else -root
        left = np.concatenate([np.kron(b * sign, np.eye(r1)) for b in self.B], axis=1)
        right = np.concatenate([np.kron(np.eye(r2), a * root) for a in self.A])
        return right, left

    def singular_values(self) -> np.ndarray:
        """The singular values of delta W, largest first; as many as its rank can have, ``lora_rank`` at most."""
        r1, r2, r = self.components.as_tuple()
        if r * r1 * r2 >= min(self.shape):
            return np.linalg.svd(self.delta(), compute_uv=False)
        right, left = self.lora()
        core = _triangle(left) @ _triangle(right.T).T
        return np.linalg.svd(core, compute_uv=False)

    def at(self, g1: int, g2: int) -> Factors:
        """The same delta W with r1 = g1 and r2 = g2, exactly, for divisors g1 of r1 and g2 of r2 (ours).

        r grows to r (r1/g1) (r2/g2): every row of a block of A, and every column of B, becomes a component.
        """
        r1, r2, r = self.components.as_tuple()
        if r1 % g1 or r2 % g2:
            raise CdkaError(f"(r1, r2) = ({r1}, {r2}) is exact at their divisors: got ({g1}, {g2}).")
        m1, m2, p, q = r1 // g1, r2 // g2, self.B.shape[1], self.A.shape[2]
        # Component (i, a, j): rows a*g1 .. of A_i in the j-th part of the wider block; column j of B_i in rows a of m1.
        A = np.zeros((r, m1, m2, g1, m2, q))
        B = np.zeros((r, m1, m2, p, m1, g2))
        rows, columns = self.A.reshape(r, m1, g1, q), self.B.reshape(r, p, g2, m2)
        for a in range(m1):
            for j in range(m2):
                A[:, a, j, :, j] = rows[:, a]
                B[:, a, j, :, a] = columns[..., j]
        return Factors(A.reshape(-1, g1, m2 * q), B.reshape(-1, p * m1, g2), self.scaling)

    def compressed(self) -> Factors:
        """The same delta W with no more components than R(delta W) has rows or columns; itself where r is not above."""
        (r, r1, q), (_, p, r2) = self.A.shape, self.B.shape
        if r <= min(p * r2, r1 * q):
            return self
        return _from_rearranged(self.B.reshape(r, -1).T @ self.A.reshape(r, -1), self, min(p * r2, r1 * q))

    def nearest(self, components: Components) -> tuple[Factors, float]:
        """The (r1, r2, r) nearest to delta W, and the relative error in the Frobenius norm.

        By the truncated singular value decomposition of R(delta W), which is optimal (Van Loan and Pitsianis, 1993). It
        says what is kept of this delta W, not what training such components would reach (ours). Raises CdkaError where
        the components do not fit the layer.
        """
        r1, r2, r = components.as_tuple()
        components.check(*self.shape)
        mine = self.components
        template = Factors(
            np.zeros((1, r1, self.shape[1] // r2)), np.zeros((1, self.shape[0] // r1, r2)), self.scaling or 1.0
        )
        if mine.r1 % r1 == 0 and mine.r2 % r2 == 0:
            found = _nearest_of_factors(self.at(r1, r2), r)
        else:
            R = rearrange(delta_weight(self.A, self.B), r1, r2)
            found = _from_rearranged(R, template, min(r, *R.shape))
        total = self.norm()
        return found, 0.0 if total == 0 else relative_error(self, found)

    def as_single(self) -> Factors | None:
        """The same delta W as one Kronecker product at this r2, up to rounding; None where it is not one.

        A LoKr whose second factor is itself a product has several components in our coordinates, with r1 = 1, but is
        one product of its full factors. The product of a single number with delta W is left out: it saves nothing.
        """
        if self.components.r == 1:
            return self
        r1, r2, _ = self.components.as_tuple()
        delta = delta_weight(self.A, self.B)
        for candidate in divisors(self.shape[0]):
            if candidate % r1 == 0 and (candidate, r2) not in ((self.shape[0], 1), (1, self.shape[1])):
                pair = _outer_product(rearrange(delta, candidate, r2))
                if pair is not None:
                    B, A = pair
                    A, B = A.reshape(1, candidate, -1), B.reshape(1, -1, r2)
                    return Factors(A, B, self.scaling)
        return None


def added(first: Factors, second: Factors, weights: tuple[float, float] = (1.0, 1.0)) -> Factors:
    """``weights[0] * first + weights[1] * second``, exactly, at the greatest common divisors of r1 and r2 (ours).

    Raises CdkaError where the layers differ in size.
    """
    if first.shape != second.shape:
        raise CdkaError(f"layers of one size can be added: got {first.shape} and {second.shape} (out, in).")
    a, b = first.components, second.components
    g1, g2 = int(np.gcd(a.r1, b.r1)), int(np.gcd(a.r2, b.r2))
    one, two = first.at(g1, g2), second.at(g1, g2)
    B = np.concatenate([weights[0] * one.scaling * one.B, weights[1] * two.scaling * two.B])
    return Factors(np.concatenate([one.A, two.A]), B)


def relative_error(exact: Factors, other: Factors) -> float:
    """||delta W - other|| / ||delta W|| in the Frobenius norm; 0 where both are zero."""
    total = exact.norm()
    if total == 0:
        return 0.0 if other.norm() == 0 else np.inf
    return float(np.linalg.norm(exact.delta() - other.delta()) / total)


def capture(factors: Factors, r1: int, r2: int) -> np.ndarray:
    """The cosine between delta W and its nearest (r1, r2, r), for r = 1, 2, ... up to the rank of R(delta W)."""
    R = rearrange(factors.delta(), r1, r2)
    small = R @ R.T if R.shape[0] <= R.shape[1] else R.T @ R
    energy = np.maximum(np.linalg.eigvalsh(small)[::-1], 0.0)
    total = energy.sum()
    return np.sqrt(np.cumsum(energy) / total) if total > 0 else np.zeros(len(energy))


def _from_rearranged(R: np.ndarray, like: Factors, r: int) -> Factors:
    """The r leading terms of R, (out/r1 * r2, r1 * in/r2), as components of the shapes of ``like``."""
    U, s, V = np.linalg.svd(R, full_matrices=False)
    root = np.sqrt(s[:r])
    A = (root[:, None] * V[:r]).reshape(r, *like.A.shape[1:])
    return Factors(A, (U[:, :r] * root).T.reshape(r, *like.B.shape[1:]), like.scaling)


def _nearest_of_factors(factors: Factors, r: int) -> Factors:
    """The nearest r components at the factors' own (r1, r2), from thin factorisations: R is never formed."""
    A, B = factors.A.reshape(len(factors.A), -1), factors.B.reshape(len(factors.B), -1)
    if len(A) >= min(A.shape[1], B.shape[1]):
        return _from_rearranged(B.T @ A, factors, min(r, A.shape[1], B.shape[1]))
    (QB, RB), (QA, RA) = np.linalg.qr(B.T), np.linalg.qr(A.T)
    U, s, V = np.linalg.svd(RB @ RA.T)
    r = min(r, len(s))
    root = np.sqrt(s[:r])
    new_A, new_B = (root[:, None] * V[:r]) @ QA.T, (QB @ (U[:, :r] * root)).T
    return Factors(new_A.reshape(r, *factors.A.shape[1:]), new_B.reshape(r, *factors.B.shape[1:]), factors.scaling)


def _outer_product(R: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(u, v) with R = u v^T up to rounding; None where R has a larger rank."""
    row, column = np.unravel_index(np.abs(R).argmax(), R.shape)
    if R[row, column] == 0:
        return np.zeros(R.shape[0]), R[row]
    u, v = R[:, column] / R[row, column], R[row]
    few = slice(0, None, max(1, len(R) // 64))  # most matrices fail on a few rows already
    for rows in (few, slice(None)):
        if np.linalg.norm(R[rows] - np.outer(u[rows], v)) > SAME * np.linalg.norm(R):
            return None
    return u, v


def _triangle(matrix: np.ndarray) -> np.ndarray:
    """R of the QR decomposition of ``matrix``."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))
