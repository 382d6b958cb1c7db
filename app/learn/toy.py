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


CELL = """\
from cdka.tasks import digits

rng = np.random.default_rng(0)
rows = digits.table()
parts = {split: rows[rows['split'] == split] for split in ('train', 'validation')}
labels = {k: v['label'].to_numpy() for k, v in parts.items()}
upright = {k: (2 * digits.images(v).reshape(len(v), -1) - 1, labels[k]) for k, v in parts.items()}
shifted = {k: (2 * digits.shift(digits.images(v)).reshape(len(v), -1) - 1, labels[k]) for k, v in parts.items()}


def slopes(x, y, W, head):  # mean cross-entropy of softmax(head relu(W x)): its gradients for W and head
    hidden = np.maximum(x @ W.T, 0)
    odds = np.exp(hidden @ head.T - (hidden @ head.T).max(axis=1, keepdims=True))
    error = odds / odds.sum(axis=1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    return ((error @ head) * (hidden > 0)).T @ x, error.T @ hidden


def adam(arrays, gradients, state, lr):
    for k, (a, g) in enumerate(zip(arrays, gradients)):
        m, s, t = state.get(k, (0 * a, 0 * a, 0))
        m, s, t = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g, t + 1
        state[k] = m, s, t
        a -= lr * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)


W, head, state = rng.standard_normal((64, 64)) * 0.18, rng.standard_normal((10, 64)) * 0.125, {}
for _ in range(150):  # the base learns the upright digits
    batch = rng.integers(900, size=128)
    adam([W, head], slopes(upright['train'][0][batch], upright['train'][1][batch], W, head), state, 0.01)

A, B, state = kaiming_components(c, 64, rng), np.zeros(c.shapes(64, 64)[1]), {}
s, accuracies = c.scaling(alpha, rule), []
x, y = shifted['validation']
for step in range(151):
    if step % 5 == 0:
        adapted = W + delta_weight(A, B, s)
        accuracies.append(np.mean(np.argmax(np.maximum(x @ adapted.T, 0) @ head.T, axis=1) == y))
    batch = rng.integers(900, size=64)
    G = slopes(shifted['train'][0][batch], shifted['train'][1][batch], W + delta_weight(A, B, s), head)[0]
    R = s * rearrange(G, c.r1, c.r2)
    of_A = (B.reshape(c.r, -1) @ R).reshape(A.shape)
    of_B = (R @ A.reshape(c.r, -1).T).T.reshape(B.shape)
    adam([A, B], [of_A, of_B], state, lr)
accuracies[-1]"""
"""The same network and its training as one cell of a notebook, for ``c``, ``rule``, ``alpha`` and ``lr``."""
