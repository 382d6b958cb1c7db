"""Peak memory of a job, a run alone or a pack, from shapes. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cdka.components import Components
from cdka.cost.adapter import TRAINING_BYTES_PER_PARAM
from cdka.cost.memory import PROCESS_BYTES, MemoryEstimate, training_memory
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.spec import RunSpec


@lru_cache(maxsize=1024)
def _one(
    model: str,
    targets: str | tuple[str, ...],
    components: Components,
    batch: int,
    length: int,
    dtype: str,
    checkpointing: bool,
    device_type: str,
) -> MemoryEstimate:
    shapes = find_model(model)
    known = dict(shapes.details).get("num_image_tokens")
    return training_memory(
        shapes,
        select(shapes, targets),
        components,
        batch_size=batch,
        length=known or length,
        dtype=dtype,
        gradient_checkpointing=checkpointing,
        device_type=device_type,
    )


def job_bytes(specs: Sequence[RunSpec], device_type: str = "cpu") -> int | None:
    """Estimated peak memory of the process that trains ``specs`` together: one base, everything else per run.

    On a ``device_type`` of cuda ``auto`` is bfloat16, as the loop has it. LoRA and its kin are counted as (1, 1, rank).
    None where the model's dimensions are not known.
    """
    total, weights = 0, 0
    for spec in specs:
        components = spec.components or Components(1, 1, spec.rank or 1)
        double = spec.dtype == "float64"  # estimated as float32, twice
        half = spec.dtype == "auto" and device_type == "cuda" and spec.method != "full"
        dtype = "bfloat16" if half else "float32" if double or spec.dtype == "auto" else spec.dtype
        micro = -(-spec.batch_size // spec.gradient_accumulation)
        try:
            one = _one(
                spec.model,
                spec.target_modules,
                components,
                micro,
                spec.max_length,
                dtype,
                spec.gradient_checkpointing,
                device_type,
            )
            trained = find_model(spec.model).base_params if spec.method == "full" else 0
        except CdkaError:
            return None
        scale = 2 if double else 1
        weights = scale * one.weights_bytes
        total += scale * (one.total_bytes - one.weights_bytes + trained * TRAINING_BYTES_PER_PARAM)
    return PROCESS_BYTES + total + weights
