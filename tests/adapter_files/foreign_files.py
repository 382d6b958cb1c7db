"""Adapter files of every dialect, written from their formats, each with its delta W by the dialect's own arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from cdka.adapter_files.tensors import CONFIG_FILE, WEIGHTS_FILE


def save(path: Path, tensors: Mapping[str, np.ndarray], config: dict | None = None, **metadata: str) -> Path:
    """A bare file at ``path``, or a folder with a configuration."""
    if config is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata or None)
        return path
    path.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path / WEIGHTS_FILE)
    (path / CONFIG_FILE).write_text(json.dumps(config))
    return path


def strided_delta(down: np.ndarray, up: np.ndarray, r1: int, r2: int, r: int) -> np.ndarray:
    """delta W of the research code's and takenoko's forward pass: its reshapes, applied to every unit vector."""
    out_block, in_block = up.shape[0], down.shape[1]
    x = np.eye(r2 * in_block).reshape(-1, r2, in_block)  # a unit vector in each row
    t = (x @ down.T).reshape(-1, r2, r1, r).transpose(0, 2, 1, 3).reshape(-1, r1, r2 * r)
    return (t @ up.T).transpose(0, 2, 1).reshape(-1, out_block * r1).T


def lora(rng, out, inn, rank, alpha):
    A, B = rng.normal(size=(rank, inn)), rng.normal(size=(out, rank))
    return {"lora_down.weight": A, "lora_up.weight": B, "alpha": np.array(alpha)}, alpha / rank * B @ A


def lokr(rng, a, b, c, d, rank, alpha, decompose=""):
    """kron of w1 (a, c) and w2 (b, d); ``decompose`` names the factors given as products: "1", "2", "12"."""
    tensors, factors = {"alpha": np.array(alpha)}, []
    for number, (rows, columns) in (("1", (a, c)), ("2", (b, d))):
        if number in decompose:
            left, right = rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))
            tensors |= {f"lokr_w{number}_a": left, f"lokr_w{number}_b": right}
            factors.append(left @ right)
        else:
            factors.append(rng.normal(size=(rows, columns)))
            tensors[f"lokr_w{number}"] = factors[-1]
    return tensors, (alpha / rank if decompose else 1.0) * np.kron(*factors)


def loha(rng, out, inn, rank, alpha):
    pairs = [(rng.normal(size=(out, rank)), rng.normal(size=(rank, inn))) for _ in range(2)]
    tensors = {f"hada_w{i}_{s}": m for i, pair in enumerate(pairs, 1) for s, m in zip("ab", pair, strict=True)}
    delta = alpha / rank * (pairs[0][0] @ pairs[0][1]) * (pairs[1][0] @ pairs[1][1])
    return tensors | {"alpha": np.array(alpha)}, delta


def storyaura(rng, p, r1, r2, q, r, alpha):
    A, B = rng.normal(size=(r, r1, q)), rng.normal(size=(r, p, r2))
    delta = alpha / np.sqrt(r * r2) * sum(np.kron(b, a) for a, b in zip(A, B, strict=True))
    return {"cdka_a": A, "cdka_b": B, "alpha": np.array(alpha)}, delta


def takenoko(rng, p, r1, r2, q, r, alpha, padding=0):
    down, up = rng.normal(size=(r1 * r, q)), rng.normal(size=(p, r2 * r))
    buffers = {"r1": r1, "r2": r2, "rank": r, "in_block_size": q, "out_block_size": p, "allow_padding_flag": padding}
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "alpha": np.array(alpha)}
    tensors |= {f"cdka_{name}": np.array(value) for name, value in buffers.items()}
    return tensors, alpha / r * strided_delta(down, up, r1, r2, r)


def official(rng, p, r1, r2, q, r, alpha):
    """The research code's tensors, with the prefix of PEFT, and its configuration."""
    A, B = rng.normal(size=(r1 * r, q)), rng.normal(size=(p, r2 * r))
    config = {"peft_type": "LORA", "r1": r1, "r2": r2, "r": r, "lora_alpha": alpha}
    return {"lora_A.weight": A, "lora_B.weight": B}, alpha / np.sqrt(r * r2) * strided_delta(A, B, r1, r2, r), config


def named(prefix: str, parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The tensors of several modules under a prefix."""
    return {f"{prefix}{module}.{field}": t for module, tensors in parts.items() for field, t in tensors.items()}
