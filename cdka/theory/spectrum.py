"""Ranks that count: how many directions a matrix really uses; and gradients with a chosen spectrum."""

from __future__ import annotations

import numpy as np

from cdka.errors import CdkaError

SPECTRA = ("power", "exponential", "flat", "low_rank")
"""Shapes of a simulated spectrum: i^-decay, exp(-decay i), all equal, and ``decay`` equal values then zero."""


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """Singular values, largest first."""
    return np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)


def effective_rank(matrix: np.ndarray) -> float:
    """``effective_rank_of`` the matrix's singular values; 0 for a zero matrix."""
    return effective_rank_of(singular_values(matrix))


def effective_rank_of(values: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli, 2007); 0 where all are zero."""
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def stable_rank(matrix: np.ndarray) -> float:
    """Squared Frobenius norm over squared spectral norm; 0 for a zero matrix."""
    values = singular_values(matrix)
    return float(np.sum(values**2) / values[0] ** 2) if values[0] > 0 else 0.0


def numerical_rank(matrix: np.ndarray, tolerance: float = 1e-9) -> int:
    """The number of singular values above ``tolerance`` times the largest."""
    values = singular_values(matrix)
    return int(np.sum(values > tolerance * values[0])) if values[0] > 0 else 0


def spectrum_values(count: int, kind: str = "power", decay: float = 1.0) -> np.ndarray:
    """``count`` singular values of the chosen kind, largest first, scaled to unit energy (sum of squares 1)."""
    if kind not in SPECTRA:
        raise CdkaError(f"spectrum must be one of {', '.join(SPECTRA)}: got {kind!r}.")
    if count < 1 or decay < 0 or (kind == "low_rank" and not 1 <= decay <= count):
        raise CdkaError(f"spectrum {kind!r} needs count >= 1 and a decay in range: got count={count}, decay={decay}.")
    index = np.arange(1, count + 1, dtype=float)
    values = {
        "power": lambda: index**-decay,
        "exponential": lambda: np.exp(-decay * (index - 1)),
        "flat": lambda: np.ones(count),
        "low_rank": lambda: (index <= decay).astype(float),
    }[kind]()
    return values / np.linalg.norm(values)


def simulated_gradient(
    out_features: int,
    in_features: int,
    rng: np.random.Generator | int = 0,
    kind: str = "power",
    decay: float = 1.0,
    values: np.ndarray | None = None,
) -> np.ndarray:
    """A matrix (out, in) with random singular vectors and the given kind of spectrum (or the given ``values``)."""
    rng = np.random.default_rng(rng)
    count = min(out_features, in_features)
    chosen = spectrum_values(count, kind, decay) if values is None else np.asarray(values, dtype=float)
    if len(chosen) > count:
        raise CdkaError(f"at most min(out, in) = {count} singular values fit: got {len(chosen)}.")
    left = np.linalg.qr(rng.standard_normal((out_features, len(chosen))))[0]
    right = np.linalg.qr(rng.standard_normal((in_features, len(chosen))))[0]
    return (left * chosen) @ right.T
