"""Memory that training one option takes, compared with what this machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cdka.components import Components
from cdka.cost.adapter import ADAM_BYTES_PER_PARAM, ADAPTER_BYTES_PER_PARAM, GRADIENT_BYTES_PER_PARAM
from cdka.cost.kernels import form_of
from cdka.cost.memory import (
    DTYPE_BYTES,
    PROCESS_BYTES,
    TOLERANCE,
    fits,
    num_blocks,
    training_memory,
)
from cdka.errors import CdkaError
from cdka.machine import Device, detect_device
from cdka.models.shapes import ModelShapes
from cdka.solver.feasible import fitted_values
from cdka.solver.option import Option
from cdka.solver.search import Solution

USUAL_LENGTH = 512


@dataclass(frozen=True)
class Setting:
    """A training setting: batch size, tokens per example (None for images), number format of the base, and whether
    activations are computed twice to keep fewer."""

    batch_size: int
    length: int | None
    dtype: str
    gradient_checkpointing: bool = False

    def __str__(self) -> str:
        tokens = "" if self.length is None else f" x {self.length:,} tokens"
        twice = ", gradient checkpointing" if self.gradient_checkpointing else ""
        return f"batch {self.batch_size}{tokens}, {self.dtype}{twice}"


def usual_setting(shapes: ModelShapes) -> Setting:
    """Batch 8 of 512 tokens in bfloat16; for an embedded model, which trains on a CPU, 64 in float32."""
    details = dict(shapes.details)
    length = None if "num_image_tokens" in details else min(USUAL_LENGTH, details.get("max_positions", USUAL_LENGTH))
    return Setting(64, length, "float32") if shapes.embedded else Setting(8, length, "bfloat16")


def training_bytes(solution: Solution, setting: Setting, device_type: str) -> np.ndarray:
    """The estimated peak of training each option of ``solution`` alone, in bytes: ``training_memory``, all at once.

    Raises CdkaError where the model's dimensions do not allow an estimate.
    """
    c = solution.columns
    size = DTYPE_BYTES.get(setting.dtype, 2)
    details = dict(solution.shapes.details)
    fitted = [fitted_values(s.out_features, s.in_features, c.r1, c.r2, solution.indivisible) for s in solution.linears]
    total = _without_adapter(solution, setting, device_type, np.array([adapted for _, _, adapted in fitted]))
    tokens = setting.batch_size * (setting.length or details["num_image_tokens"])
    kept = np.zeros(len(c), dtype=np.int64)
    for s, (r1, r2, adapted) in zip(solution.linears, fitted, strict=True):
        count, reduced = s.count * adapted, c.r * r1 * r2
        kept = kept + count * (reduced - 1)
        expanded = form_of(tokens, r1, r2, c.r, s.in_features, device_type) == "expanded"
        total = total + size * count * (s.out_features * reduced // np.where(expanded, 1, r1**2))
        total = total + (size * count * (c.r * r1 * s.in_features // r2) if size < 4 else 0)
    at_once = num_blocks(solution.shapes) if setting.gradient_checkpointing else 1
    per_param = ADAPTER_BYTES_PER_PARAM + GRADIENT_BYTES_PER_PARAM + ADAM_BYTES_PER_PARAM
    return total + c.num_params * per_param + kept * size * tokens // at_once


def _without_adapter(solution: Solution, setting: Setting, device_type: str, adapted: np.ndarray) -> np.ndarray:
    """The peak of (1, 1, 1) less its adapter, for the layers that each option adapts: ``adapted`` is (layers, options).

    All options of a solution adapt the same layers, unless those that they do not divide are left out.
    """
    sets, which = np.unique(adapted, axis=1, return_inverse=True) if solution.indivisible == "skip" else (None, 0)
    found = []
    for mask in [np.ones(len(adapted))] if sets is None else sets.T:
        one = training_memory(
            solution.shapes,
            [s for s, here in zip(solution.linears, mask, strict=True) if here],
            Components(1, 1, 1),
            batch_size=setting.batch_size,
            length=setting.length,
            dtype=setting.dtype,
            gradient_checkpointing=setting.gradient_checkpointing,
            device_type=device_type,
        )
        found.append(one.total_bytes - one.adapter_bytes)
    return np.array(found, dtype=np.int64)[which]


def fitting_rows(
    solution: Solution, setting: Setting, device: Device | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The training memory of every option, and a mask of those that fit the device's free memory.

    The first is None where the model's dimensions are not known; the second also without a device.
    """
    try:
        memory = training_bytes(solution, setting, "cpu" if device is None else device.kind)
    except CdkaError:
        return None, None
    if device is None:
        return memory, None
    return memory, memory * (1 + TOLERANCE) + PROCESS_BYTES <= device.free_bytes


def resources(
    solution: Solution,
    option: Option,
    *,
    batch_size: int,
    length: int | None = None,
    dtype: str = "auto",
    gradient_checkpointing: bool = False,
    device: Device | None = None,
) -> dict[str, Any]:
    """File, optimizer, peak training memory by part, FLOPs, and the fit with ``device`` (the detected one if None).

    All sizes in bytes. ``dtype`` is the frozen base's; ``auto`` is bfloat16 on a GPU, else float32. Raises CdkaError
    where the model's dimensions do not allow an estimate.
    """
    where = device or detect_device()
    if dtype == "auto":
        dtype = "bfloat16" if where.kind == "cuda" else "float32"
    estimate = training_memory(
        solution.shapes,
        solution.linears,
        option.components,
        batch_size=batch_size,
        length=length,
        dtype=dtype,
        gradient_checkpointing=gradient_checkpointing,
        device_type=where.kind,
        indivisible=solution.indivisible,
    )
    return {
        "components": list(option.components.as_tuple()),
        "adapter_file_bytes": option.adapter_bytes,
        "optimizer_bytes": option.optimizer_bytes,
        "flops_per_token": option.flops_per_token,
        "flops_overhead": option.flops_overhead,
        **vars(estimate),
        "total_bytes": estimate.total_bytes,
        "dtype": dtype,
        "device": where.name,
        "device_bytes": where.total_bytes,
        "free_bytes": where.free_bytes,
        "fits": fits(estimate, where),
    }
