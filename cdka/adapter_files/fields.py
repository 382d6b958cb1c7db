"""From the tensors of one module to its factors: one function a dialect, each an exact identity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cdka.adapter_files.names import pattern_value
from cdka.components import scaling
from cdka.errors import CdkaError
from cdka.theory.factors import Factors


@dataclass(frozen=True, eq=False)
class Module:
    """The tensors of one module as read, and where they come from."""

    name: str
    arrays: Mapping[str, np.ndarray]
    config: Mapping[str, Any] = field(default_factory=dict)
    peft: bool = False
    kernel: tuple[int, ...] = ()

    def setting(self, name: str, default: float) -> float:
        """A number of the configuration for this module, by PEFT's patterns."""
        pattern = {"lora_alpha": "alpha_pattern", "alpha": "alpha_pattern", "r": "rank_pattern"}[name]
        value = pattern_value(self.config.get(pattern), self.name, self.config.get(name, default))
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CdkaError(f"{name} must be a number: got {value!r} for {self.name!r} in adapter_config.json.")
        return value

    def number(self, name: str, default: float) -> float:
        """A tensor that holds one number."""
        return float(self.arrays[name].reshape(-1)[0]) if name in self.arrays else default


def lora(m: Module) -> Factors:
    """LoRA of rank k is (1, 1, k): A_i is row i of lora_A, B_i column i of lora_B. Convolutions come flattened."""
    if "lora_down" in m.arrays:
        A, B = m.arrays["lora_down"], m.arrays["lora_up"]
    elif "lora_embedding_A" in m.arrays:
        A, B = m.arrays["lora_embedding_A"], m.arrays["lora_embedding_B"]
    else:
        A, B = m.arrays["lora_A"], m.arrays["lora_B"]
    A, B = A.reshape(len(A), -1), B.reshape(len(B), -1)
    rank = len(A)
    if B.shape[1] != rank:
        raise CdkaError(
            f"both factors of a LoRA have its rank: {m.name!r} has {rank} rows in A, {B.shape[1]} columns in B."
        )
    if m.peft:
        factor = m.setting("lora_alpha", 8) / (math.sqrt(rank) if m.config.get("use_rslora") else rank)
    else:
        factor = m.number("alpha", rank) / rank
    return Factors(A[:, None, :], B.T[:, :, None], factor * m.number("scalar", 1.0))


def cdka(m: Module) -> Factors:
    """Our own tensors, and storyAura's, which are laid out alike: A (r, r1, in/r2), B (r, out/r1, r2)."""
    ours = "cdka_A" in m.arrays
    A, B = (m.arrays[name] for name in (("cdka_A", "cdka_B") if ours else ("cdka_a", "cdka_b")))
    if A.ndim != 3 or B.ndim != 3 or len(A) != len(B):
        raise CdkaError(f"A is (r, r1, in/r2) and B (r, out/r1, r2): {m.name!r} has {A.shape} and {B.shape}.")
    alpha = m.setting("alpha", 64.0) if ours else m.number("alpha", math.sqrt(len(A) * B.shape[2]))
    rule = m.config.get("scaling_rule", "sqrt_r_r2") if ours else "sqrt_r_r2"
    return Factors(A, B, scaling(alpha, B.shape[2], len(A), rule))


def official(m: Module) -> Factors:
    """The research code: rows i::r of lora_A (r1 r, in/r2) are A_i, columns i::r of lora_B (out/r1, r2 r) are B_i."""
    r1, r2 = (_whole(m, name, m.config.get(name)) for name in ("r1", "r2"))
    r = _whole(m, "r", m.setting("r", 0))
    A, B = _strided(m, m.arrays["lora_A"], m.arrays["lora_B"], r1, r2, r)
    alpha = m.setting("lora_alpha" if "lora_alpha" in m.config else "alpha", math.sqrt(r * r2))
    return Factors(A, B, scaling(alpha, r2, r))


def takenoko(m: Module) -> Factors:
    """takenoko (Wan): laid out as the research code, the components in buffers, scaled by alpha / rank."""
    r1, r2, r = (_whole(m, name, m.number(f"cdka_{name}", 0)) for name in ("r1", "r2", "rank"))
    A, B = _strided(m, m.arrays["lora_down"], m.arrays["lora_up"], r1, r2, r)
    return Factors(A, B, m.number("alpha", r) / r)


def lokr(m: Module) -> Factors:
    """LoKr, ``kron(w1, w2)``: (rows of w2, columns of w1, 1); (1, columns of w1, k) where w2 = w2_a w2_b of rank k."""
    a, full = m.arrays, {"lokr_w1", "lokr_w2"} <= set(m.arrays)
    w1 = a["lokr_w1"] if "lokr_w1" in a else a["lokr_w1_a"] @ a["lokr_w1_b"]
    if m.peft:
        factor = m.setting("alpha", 8) / m.setting("r", 8)
    elif full:  # every reader outside PEFT ignores alpha here
        factor = 1.0
    else:
        rank = (a["lokr_w1_a"] if "lokr_w1_a" in a else a["lokr_w2_a"]).shape[1]
        factor = m.number("alpha", rank) / rank
    factor *= m.number("scalar", 1.0)
    if "lokr_w2" in a:
        w2 = a["lokr_w2"]
        if m.peft and w2.ndim == 3:
            raise CdkaError(
                f"PEFT's LoKr of a Conv1d with a full second factor is no Kronecker product of its weight: {m.name!r}. "
                "Train it with decompose_factor and r so that lokr_w2 is decomposed."
            )
        w2 = w2.reshape(len(w2), -1)
        return Factors(w2[None], w1[None], factor)
    left, right = a["lokr_w2_a"], a["lokr_w2_b"]
    right = right.reshape(len(right), -1)
    B = np.stack([np.kron(w1, column[:, None]) for column in left.T])
    return Factors(right[:, None, :], B, factor)


def loha(m: Module) -> Factors:
    """LoHa of rank k is (1, 1, k^2): the products of every column of one pair with every column of the other."""
    a = m.arrays
    rank = a["hada_w1_a"].shape[1]
    flat = {name: a[name].reshape(len(a[name]), -1) for name in ("hada_w1_b", "hada_w2_b")}
    B = np.einsum("oi,oj->ijo", a["hada_w1_a"], a["hada_w2_a"]).reshape(-1, len(a["hada_w1_a"]), 1)
    A = np.einsum("in,jn->ijn", flat["hada_w1_b"], flat["hada_w2_b"]).reshape(len(B), 1, -1)
    factor = (m.setting("alpha", 8) / m.setting("r", 8)) if m.peft else m.number("alpha", rank) / rank
    return Factors(A, B, factor * m.number("scalar", 1.0))


NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "cdka": (("cdka_A", "cdka_B"), ("cdka_a", "cdka_b")),
    "lora": (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"), ("lora_down", "lora_up")),
    "lokr": (
        ("lokr_w1", "lokr_w2"),
        ("lokr_w1", "lokr_w2_a", "lokr_w2_b"),
        ("lokr_w1_a", "lokr_w1_b", "lokr_w2"),
        ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"),
    ),
    "loha": (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),),
}
"""The tensors that make a whole module of a method, in every spelling."""
CONVERTERS: dict[str, Callable[[Module], Factors]] = {
    "cdka": cdka,
    "lora": lora,
    "lokr": lokr,
    "loha": loha,
    "official": official,
    "takenoko": takenoko,
}


def _strided(m: Module, A: np.ndarray, B: np.ndarray, r1: int, r2: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    if A.ndim != 2 or B.ndim != 2 or len(A) != r1 * r or B.shape[1] != r2 * r:
        raise CdkaError(
            f"CDKA (r1, r2, r) = ({r1}, {r2}, {r}) has r1 r rows in A and r2 r columns in B: {m.name!r} has "
            f"{A.shape} and "
            f"{B.shape}."
        )
    return A.reshape(r1, r, -1).transpose(1, 0, 2), B.reshape(len(B), r2, r).transpose(2, 0, 1)


def _whole(m: Module, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
        raise CdkaError(f"{name} must be a positive integer: got {value!r} for {m.name!r}.")
    return int(value)
