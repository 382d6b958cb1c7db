"""The numbers of chapter 4: alignment on simulated gradients, predicted, measured and at best; what is asked."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from app.learn.course import Values
from cdka.components import Components
from cdka.theory import best_capture, measured_alignment, predicted_alignment, simulated_gradient, spectrum_values

SIDE = 128
INITS = 8
MANY_INITS = 32
RANGE = (1, 2, 4, 8, 16)
Spectrum = tuple[float, int]
"""A simulated gradient: its singular values are i^-fall for the first ``rank``, then zero."""
FALLS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
SPECTRA: dict[str, Spectrum] = {"all equal": (0.0, SIDE), "falling slowly": (0.5, SIDE), "falling fast": (1.0, SIDE)}
"""Those of the exercise."""
STEPS = {"gradient": "gradient", "Adam": "adam", "best in the span": "projection"}
"""The first step on the button, and its name in ``cdka.theory.alignment``."""


@lru_cache(maxsize=64)
def gradient(spectrum: Spectrum, seed: int) -> np.ndarray:
    """A simulated gradient of shape (128, 128) with the chosen spectrum."""
    fall, rank = spectrum
    return simulated_gradient(SIDE, SIDE, seed, values=spectrum_values(rank, "power", fall)).astype(np.float32)


def shape_of(values: Values) -> Spectrum:
    """The spectrum that the learner has set."""
    return values["fall"], values["rank"]


@lru_cache(maxsize=512)
def sweep(
    spectrum: Spectrum, seed: int, c: Components, name: str, step: str = "gradient", with_best: bool = True
) -> dict[str, np.ndarray]:
    """Alignment for every value of one of r1, r2, r: predicted, measured (mean and sd over inits), best possible.

    Without ``with_best`` the last, the slowest, is zero: for figures that do not show it.
    """
    rows = []
    for value in RANGE:
        d = Components(**{**{"r1": c.r1, "r2": c.r2, "r": c.r}, name: value})
        measured = measure(spectrum, seed, d, step)
        rows.append(
            (
                value,
                predicted_alignment(d, SIDE),
                measured.mean(),
                measured.std(ddof=1),
                best_of(spectrum, seed, d) if with_best else 0.0,
            )
        )
    columns = np.array(rows, dtype=np.float32).T
    return dict(zip(("value", "predicted", "measured", "sd", "best"), columns, strict=True))


@lru_cache(maxsize=2048)
def measure(spectrum: Spectrum, seed: int, c: Components, step: str) -> np.ndarray:
    """Measured alignment over INITS random starts."""
    G = gradient(spectrum, seed)
    return measured_alignment(G.astype(np.float64) if step == "projection" else G, c, rng=seed, inits=INITS, step=step)


@lru_cache(maxsize=2048)
def best_of(spectrum: Spectrum, seed: int, c: Components) -> float:
    """Best possible alignment."""
    return best_capture(gradient(spectrum, seed), c)


def now(values: Values) -> tuple[float, float, float]:
    """Predicted, measured (mean) and best possible alignment of the present setting."""
    c, spectrum, seed = Components(values["r1"], values["r2"], values["r"]), shape_of(values), values["seed"]
    measured = measure(spectrum, seed, c, STEPS[values["step"]])
    return predicted_alignment(c, SIDE), float(measured.mean()), best_of(spectrum, seed, c)


CANDIDATES = tuple(Components(*c) for c in product(RANGE, RANGE, (1, 2, 3, 4, 6, 8)) if max(c[:2]) > 1 or c[2] > 2)
CLEARLY = 1.8
"""The best of the four has at least so many times the r r2 / r1 of the second."""


def four(seed: int) -> tuple[Components, ...]:
    """Four settings of similar price, one of them clearly best aligned, at least one of higher rank than it."""
    rng = np.random.default_rng([seed, 4])
    while True:
        price = int(rng.integers(1000, 4200))
        alike = [c for c in CANDIDATES if abs(c.num_params(SIDE, SIDE) - price) <= 0.06 * price]
        if len(alike) < 4:
            continue
        chosen = [alike[i] for i in rng.permutation(len(alike))[:4]]
        ranked = sorted(chosen, key=lambda c: -c.alignment(SIDE))
        first, second = ranked[:2]
        if 0.7 > first.alignment(SIDE) >= CLEARLY**0.5 * second.alignment(SIDE) and any(
            c.rank_bound(SIDE, SIDE) > first.rank_bound(SIDE, SIDE) for c in ranked[1:]
        ):
            return tuple(chosen)


def judge(candidates: tuple[Components, ...], spectrum: Spectrum, seed: int) -> list[tuple[Components, float, float]]:
    """Each candidate with its predicted and its measured alignment, over many initialisations."""
    G = gradient(spectrum, seed)
    return [
        (c, predicted_alignment(c, SIDE), float(measured_alignment(G, c, rng=seed, inits=MANY_INITS).mean()))
        for c in candidates
    ]
