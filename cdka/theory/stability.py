"""The reason for scaling by alpha / sqrt(r r2): the size of the output after one Adam step from B = 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cdka.components import SCALING_RULES, Components
from cdka.errors import CdkaError
from cdka.theory.rearrange import kaiming_components, rearrange

EXPERIMENT = tuple(
    Components(*c)
    for c in ((1, 1, 1), (1, 1, 8), (1, 1, 64), (1, 16, 16), (2, 8, 4), (2, 64, 4), (4, 8, 4), (16, 8, 4))
)
"""Configurations over which the output should keep its size."""

INPUTS = ("new", "batch")
"""Inputs that had no part in the gradient, and those that made it."""


@dataclass(frozen=True)
class FirstStep:
    """Root mean square of the adapter's output after one Adam step, for unit-variance inputs."""

    components: Components
    rule: str
    output_rms: float


def factored_forward(x: np.ndarray, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``x @ (sum_i kron(B_i, A_i))^T`` without forming the matrix. x (tokens, in) -> (tokens, out)."""
    r, r1, width = A.shape
    rows, r2 = B.shape[1:]
    hidden = x.reshape(len(x), r2, width) @ A.reshape(r * r1, width).T
    hidden = hidden.reshape(len(x), r2 * r, r1)
    mixed = B.transpose(1, 2, 0).reshape(rows, r2 * r) @ hidden
    return mixed.reshape(len(x), rows * r1)


def first_step_rms(
    components: Components,
    out_features: int = 1024,
    in_features: int = 1024,
    *,
    alpha: float = 1.0,
    lr: float = 1e-3,
    rule: str = "sqrt_r_r2",
    rng: np.random.Generator | int = 0,
    num_tokens: int = 16,
    gradient: np.ndarray | None = None,
    inputs: np.ndarray | None = None,
) -> FirstStep:
    """Output size after one Adam step: B moves from zero by lr times the sign of its gradient.

    ``inputs`` (tokens, in) are new ones, independent of the gradient, unless given.

    Theory: with ``sqrt_r_r2`` it is alpha * lr / sqrt(3) for every configuration (A uniform with variance
    1 / (3 fan-in)). (ours; the rule is the paper's training stabilisation.)
    """
    rng = np.random.default_rng(rng)
    G = rng.standard_normal((out_features, in_features), dtype=np.float32) if gradient is None else gradient
    A = kaiming_components(components, in_features, rng).astype(G.dtype)
    # gradient of the loss with respect to vec(B_i) is R(G) vec(A_i) times a positive scaling
    towards = rearrange(G, components.r1, components.r2) @ A.reshape(components.r, -1).T
    B = -lr * np.sign(towards.T.reshape(components.r, out_features // components.r1, components.r2))
    x = rng.standard_normal((num_tokens, in_features)).astype(G.dtype) if inputs is None else inputs
    output = components.scaling(alpha, rule) * factored_forward(x, A, B)
    return FirstStep(components, rule, float(np.sqrt(np.mean(np.square(output)))))


def stability_experiment(
    configurations: Iterable[Components] = EXPERIMENT,
    rules: Iterable[str] = SCALING_RULES,
    out_features: int = 512,
    in_features: int = 512,
    *,
    alpha: float = 1.0,
    lr: float = 1e-3,
    seed: int = 0,
    gradient_tokens: int | None = None,
    inputs: str = "new",
) -> list[FirstStep]:
    """One row per configuration and rule. The same gradient, A and inputs serve every rule.

    The gradient has no structure, or is that of ``gradient_tokens`` random tokens. ``inputs`` is one of INPUTS: new
    ones, or the ``batch`` of tokens that made the gradient; on it the terms add up instead of cancelling (ours). Raises
    CdkaError for other inputs, and for the batch of a gradient without tokens.
    """
    if inputs not in INPUTS or (inputs == "batch" and gradient_tokens is None):
        raise CdkaError(
            f"inputs must be one of {', '.join(INPUTS)}, and a batch needs gradient_tokens: got inputs={inputs!r}, "
            f"gradient_tokens={gradient_tokens}."
        )
    rules = tuple(rules)
    rng = np.random.default_rng(seed)
    if gradient_tokens is None:
        tokens, gradient = None, rng.standard_normal((out_features, in_features), dtype=np.float32)
    else:
        tokens = rng.standard_normal((gradient_tokens, in_features), dtype=np.float32)
        gradient = rng.standard_normal((gradient_tokens, out_features), dtype=np.float32).T @ tokens
    rows = []
    for components in configurations:
        plain = first_step_rms(
            components,
            out_features,
            in_features,
            alpha=1.0,
            lr=lr,
            rule="none",
            rng=seed + 1,
            gradient=gradient,
            inputs=tokens if inputs == "batch" else None,
        )
        rows += [FirstStep(components, rule, components.scaling(alpha, rule) * plain.output_rms) for rule in rules]
    return rows
