"""A network small enough to train as one watches: two layers on the embedded digits, adapted with Adam, in NumPy.

The base reads upright digits; an adapter on its first layer learns the shifted ones. (ours)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from cdka.components import Components
from cdka.tasks import digits
from cdka.theory import delta_weight, kaiming_components, rearrange

WIDTH, CLASSES, BATCH = 64, 10, 64
BETAS, TINY = (0.9, 0.999), 1e-8
BASE_STEPS, BASE_LR = 150, 0.01


@dataclass(frozen=True)
class Digits:
    """Pixels (n, 64) in [-1, 1] and labels (n,) of the training and the validation part."""

    x: np.ndarray
    y: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray


@lru_cache(maxsize=2)
def data(shifted: bool) -> Digits:
    """The embedded digits, upright or shifted as in the task digits-flip."""
    parts = []
    for split in ("train", "validation"):
        rows = digits.table()[digits.table()["split"] == split]
        shown = digits.images(rows)
        shown = digits.shift(shown) if shifted else shown
        parts += [2.0 * shown.reshape(len(rows), -1) - 1.0, rows["label"].to_numpy()]
    return Digits(*parts)


class Adam:
    """Adam on a list of arrays, in place."""

    def __init__(self, arrays: list[np.ndarray], lr: float) -> None:
        self.arrays, self.lr, self.count = arrays, lr, 0
        self.moments = [(np.zeros_like(a), np.zeros_like(a)) for a in arrays]

    def step(self, gradients: list[np.ndarray]) -> None:
        """One update against ``gradients``."""
        self.count += 1
        first, second = BETAS
        for array, gradient, (m, v) in zip(self.arrays, gradients, self.moments, strict=True):
            m *= first
            m += (1 - first) * gradient
            v *= second
            v += (1 - second) * gradient**2
            size = np.sqrt(v / (1 - second**self.count)) + TINY
            array -= self.lr * (m / (1 - first**self.count)) / size


def loss_and_slopes(
    x: np.ndarray, y: np.ndarray, W: np.ndarray, head: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean cross-entropy of ``softmax(head relu(W x))`` and its gradients for W (hidden, 64) and head (10, hidden)."""
    hidden = np.maximum(x @ W.T, 0.0)
    scores = hidden @ head.T
    scores -= scores.max(axis=1, keepdims=True)
    odds = np.exp(scores)
    odds /= odds.sum(axis=1, keepdims=True)
    loss = float(-np.mean(np.log(odds[np.arange(len(y)), y] + 1e-12)))
    error = odds
    error[np.arange(len(y)), y] -= 1.0
    error /= len(y)
    back = (error @ head) * (hidden > 0)
    return loss, back.T @ x, error.T @ hidden


def accuracy(x: np.ndarray, y: np.ndarray, W: np.ndarray, head: np.ndarray) -> float:
    """The share of right answers."""
    return float(np.mean(np.argmax(np.maximum(x @ W.T, 0.0) @ head.T, axis=1) == y))


@lru_cache(maxsize=1)
def base() -> tuple[np.ndarray, np.ndarray]:
    """W (64, 64) and head (10, 64), trained on the upright digits."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((WIDTH, 64)) * np.sqrt(2 / 64)
    head = rng.standard_normal((CLASSES, WIDTH)) * np.sqrt(1 / WIDTH)
    upright, adam = data(False), Adam([W, head], BASE_LR)
    for _ in range(BASE_STEPS):
        batch = rng.integers(len(upright.y), size=2 * BATCH)
        adam.step(list(loss_and_slopes(upright.x[batch], upright.y[batch], W, head)[1:]))
    return W, head


@dataclass
class Training:
    """One adapter in training on the shifted digits: ``losses`` by step, ``accuracies`` by measurement."""

    components: Components
    rule: str = "sqrt_r_r2"
    alpha: float = 16.0
    lr: float = 0.003
    seed: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    _at: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self.A = kaiming_components(self.components, 64, self._rng)
        self.B = np.zeros(self.components.shapes(WIDTH, 64)[1])
        self.scaling = self.components.scaling(self.alpha, self.rule)
        self._adam = Adam([self.A, self.B], self.lr)
        self._measure()

    @property
    def weight(self) -> np.ndarray:
        """W + delta W."""
        return base()[0] + delta_weight(self.A, self.B, self.scaling)

    def slopes(self, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss and its gradients for A and B: those of W, rearranged, times the other factor."""
        c = self.components
        loss, G, _ = loss_and_slopes(x, y, self.weight, base()[1])
        R = self.scaling * rearrange(G, c.r1, c.r2)
        a, b = self.A.reshape(c.r, -1), self.B.reshape(c.r, -1)
        return loss, (b @ R).reshape(self.A.shape), (R @ a.T).T.reshape(self.B.shape)

    def step(self, number: int = 1) -> None:
        """Train for so many steps, then measure the validation accuracy."""
        known = data(True)
        for _ in range(number):
            batch = self._rng.integers(len(known.y), size=BATCH)
            loss, of_a, of_b = self.slopes(known.x[batch], known.y[batch])
            self.losses.append(loss)
            self._adam.step([of_a, of_b])
        self._measure()

    def _measure(self) -> None:
        known = data(True)
        self.accuracies.append(accuracy(known.x_valid, known.y_valid, self.weight, base()[1]))
        self._at.append(len(self.losses))

    def measured(self) -> list[tuple[int, float]]:
        """The validation accuracy after so many steps, in order."""
        return list(zip(self._at, self.accuracies, strict=True))
