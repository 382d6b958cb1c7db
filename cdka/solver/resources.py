"""Memory that training one option takes, compared with what this machine has."""

from __future__ import annotations

from typing import Any

from cdka.cost.memory import fits, training_memory
from cdka.machine import Device, detect_device
from cdka.solver.option import Option
from cdka.solver.search import Solution


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
