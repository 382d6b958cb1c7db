"""One adapter taken apart: its factors, the blocks of delta W, its singular values. NumPy and safetensors, no torch."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from cdka.components import scaling
from cdka.errors import CdkaError
from cdka.theory.rearrange import delta_weight

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_KEY = re.compile(r"^(?:base_model\.model\.)?(?P<layer>.+)\.(?P<kind>cdka|lora)_(?P<side>A|B)(?:\.weight)?$")


@dataclass(frozen=True)
class Factors:
    """The factors of one adapted layer: A (r, r1, in / r2), B (r, out / r1, r2), float64, and the scaling.

    LoRA of rank r is the case r1 = r2 = 1.
    """

    layer: str
    method: str
    A: np.ndarray
    B: np.ndarray
    scaling: float

    @property
    def components(self) -> tuple[int, int, int]:
        """(r1, r2, r), read off the shapes."""
        return self.A.shape[1], self.B.shape[2], self.A.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.B.shape[1] * self.A.shape[1], self.B.shape[2] * self.A.shape[2]

    @property
    def num_params(self) -> int:
        """Trainable parameters of this layer."""
        return self.A.size + self.B.size

    def delta(self) -> np.ndarray:
        """delta W, (out, in)."""
        return delta_weight(self.A, self.B, self.scaling)

    def block_norms(self) -> np.ndarray:
        """The Frobenius norm of each r1 x (in / r2) block of delta W, (out / r1, r2), without forming it."""
        flat = self.A.reshape(len(self.A), -1)
        gram = flat @ flat.T
        squares = np.einsum("ipq,ij,jpq->pq", self.B, gram, self.B)
        return abs(self.scaling) * np.sqrt(np.maximum(squares, 0.0))

    def singular_values(self) -> np.ndarray:
        """The singular values of delta W, largest first; as many as its rank can have, min(out, in, r r1 r2) at most.

        From the exact factorisation delta W = U V of inner width r r1 r2 (ours) where that is narrower than the layer.
        """
        r1, r2, r = self.components
        width = r * r1 * r2
        if width >= min(self.shape):
            return np.linalg.svd(self.delta(), compute_uv=False)
        left = np.hstack([np.kron(b, np.eye(r1)) for b in self.B])
        right = np.vstack([np.kron(np.eye(r2), a) for a in self.A])
        core = np.asarray(np.linalg.qr(left, mode="r")) @ np.asarray(np.linalg.qr(right.T, mode="r")).T
        return abs(self.scaling) * np.linalg.svd(core, compute_uv=False)


def effective_rank(values: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli, 2007); 0 where all are zero."""
    shares = values[values > 0] / values.sum() if values.sum() > 0 else np.array([])
    return float(np.exp(-np.sum(shares * np.log(shares)))) if len(shares) else 0.0


def read_adapter(directory: Path) -> list[Factors]:
    """The adapted layers of a PEFT adapter (cdka or LoRA), in the order of their names.

    Raises CdkaError where there is no such adapter, or it is of a method that is not made of these factors.
    """
    weights, config_path = directory / "adapter_model.safetensors", directory / "adapter_config.json"
    if not weights.is_file() or not config_path.is_file():
        raise CdkaError(f"an adapter is adapter_model.safetensors with adapter_config.json: not found in {directory}.")
    try:
        config = json.loads(config_path.read_text())
        tensors = dict(_tensors(weights.read_bytes()))
    except (ValueError, safetensors.SafetensorError) as error:
        raise CdkaError(f"the adapter in {directory} cannot be read: {error}.") from None
    layers: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match:
            layers.setdefault(match["layer"], {})[f"{match['kind']}_{match['side']}"] = tensor
    found = [
        _factors(layer, parts, config) for layer, parts in sorted(layers.items(), key=lambda item: _order(item[0]))
    ]
    if not found:
        raise CdkaError(f"the anatomy shows CDKA and LoRA: the adapter in {directory} is {config.get('peft_type')!r}.")
    return found


def _order(name: str) -> list[Any]:
    """Layer 2 before layer 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _tensors(blob: bytes):
    for key, item in safetensors.deserialize(blob):
        if item["dtype"] == "BF16":  # NumPy has none: widen the upper half of a float32
            array = (np.frombuffer(item["data"], "<u2").astype("<u4") << 16).view("<f4")
        elif item["dtype"] in _DTYPES:
            array = np.frombuffer(item["data"], _DTYPES[item["dtype"]])
        else:
            continue
        yield key, array.reshape(item["shape"]).astype(np.float64)


def _factors(layer: str, parts: dict[str, np.ndarray], config: dict[str, Any]) -> Factors:
    if {"cdka_A", "cdka_B"} <= set(parts):
        A, B = parts["cdka_A"], parts["cdka_B"]
        alpha = _alpha(layer, config, "alpha")
        return Factors(layer, "cdka", A, B, scaling(alpha, B.shape[2], len(A), config.get("scaling_rule", "sqrt_r_r2")))
    if {"lora_A", "lora_B"} <= set(parts):
        A, B = parts["lora_A"], parts["lora_B"]
        rank = len(A)
        alpha = _alpha(layer, config, "lora_alpha")
        factor = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        return Factors(layer, "lora", A[:, None, :], B.T[:, :, None], factor)
    raise CdkaError(f"layer {layer!r} of the adapter has only {', '.join(sorted(parts))}: both A and B are needed.")


def _alpha(layer: str, config: dict[str, Any], name: str) -> float:
    """alpha of a layer: the first entry of alpha_pattern whose key matches the end of its name, as PEFT does."""
    for key, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({key})$", layer):
            return float(value)
    return float(config.get(name, 8.0))
