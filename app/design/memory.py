"""What an option costs beyond its parameters: file, optimizer, arithmetic, and memory for a batch and a length."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from cdka import formatting
from cdka.cost.memory import (
    DTYPE_BYTES,
    QUANTIZED_BYTES,
    TOLERANCE,
    MemoryEstimate,
    fits,
    training_memory,
)
from cdka.errors import CdkaError
from cdka.machine import detect_device
from cdka.models.shapes import ModelShapes
from cdka.solver import Option, Solution

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
USUAL_LENGTH = 512


class Cell(NamedTuple):
    """One figure: its value, what it is, what hovering tells, and whether it is bad news."""

    value: str
    name: str
    hover: str = ""
    bad: bool = False


def cells(option: Option, solution: Solution) -> list[Cell]:
    """File, optimizer state, peak training memory, and whether that fits the detected device."""
    return [
        Cell(formatting.size(option.adapter_bytes), "file, at most", "four bytes a parameter and the header"),
        Cell(formatting.size(option.optimizer_bytes), "AdamW state", "two float32 moments a parameter"),
        *_memory(option, solution),
    ]


def _lengths(shapes: ModelShapes) -> tuple[int, ...]:
    """The lengths worth asking about: none for images, whose length is fixed; none beyond the model's positions."""
    details = dict(shapes.details)
    if "num_image_tokens" in details:
        return ()
    longest = details.get("max_positions", LENGTHS[-1])
    return tuple(length for length in LENGTHS if length <= longest) or (longest,)


def _settings(shapes: ModelShapes) -> tuple[int, int | None, str]:
    """Batch size, length in tokens (None for images), and the base model's number format."""
    lengths, small = _lengths(shapes), shapes.embedded
    length = st.session_state.get("memory-length", USUAL_LENGTH)
    return (
        st.session_state.get(f"memory-batch-{small}", 64 if small else 8),
        max((n for n in lengths if n <= length), default=lengths[0]) if lengths else None,
        st.session_state.get(f"memory-dtype-{small}", "float32" if small else "bfloat16"),
    )


def _memory(option: Option, solution: Solution) -> list[Cell]:
    batch, length, dtype = _settings(solution.shapes)
    device = detect_device()
    try:
        estimate = training_memory(
            solution.shapes,
            solution.linears,
            option.components,
            batch_size=batch,
            length=length,
            dtype=dtype,
            device_type=device.kind,
        )
    except CdkaError as refusal:
        return [Cell("–", "memory", str(refusal)), Cell("–", "fits")]
    fit = fits(estimate, device)
    what = f"batch {batch}" + (f" × {length:,} tokens" if length else "") + f", {dtype}"
    free = f"{formatting.size(device.free_bytes)} of {formatting.size(device.total_bytes)} free on {device.name}"
    return [
        Cell(
            formatting.size(estimate.total_bytes),
            f"memory ± {TOLERANCE:.0%}".replace("%", " %"),
            f"peak while training, {what}: {_breakdown(estimate)}",
        ),
        Cell("fits" if fit else "does not fit", f"{formatting.size(device.free_bytes)} free", free, bad=not fit),
    ]


def _breakdown(estimate: MemoryEstimate) -> str:
    told = (
        ("frozen weights", estimate.weights_bytes),
        ("adapter, gradients, optimizer", estimate.adapter_bytes),
        ("activations", estimate.activations_bytes),
        ("logits", estimate.logits_bytes),
        ("largest temporary", estimate.working_bytes),
    )
    return "; ".join(f"{name} {formatting.size(value)}" for name, value in told)


def ask(solution: Solution) -> None:
    """Asks for the batch, the length and the number format that the memory is estimated for."""
    shapes = solution.shapes
    batch, length, dtype = _settings(shapes)
    lengths, small = _lengths(shapes), shapes.embedded
    what = f"Batch {batch}" + (f" × {length:,}" if length else "")
    with st.popover(what, width="stretch", help="What the memory is estimated for"):
        st.select_slider("Batch size", BATCHES, value=batch, key=f"memory-batch-{small}", persist_state="session")
        if len(lengths) > 1:
            st.session_state["memory-length"] = length
            st.select_slider("Length (tokens)", lengths, key="memory-length", persist_state="session")
        st.segmented_control(
            "Frozen weights in",
            [*DTYPE_BYTES, *QUANTIZED_BYTES],
            default=dtype,
            required=True,
            key=f"memory-dtype-{small}",
            persist_state="session",
        )
