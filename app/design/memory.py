"""Costs of an option beyond its parameters: file, optimizer, arithmetic, memory for a batch and a length."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from app import form_memory, state
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
from cdka.machine import Device, detect_device
from cdka.models.shapes import ModelShapes
from cdka.solver import Option, Setting, Solution, usual_setting

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
USUAL_LENGTH = 512
THIS_MACHINE = "this machine"
GPUS = {f"{size} GB GPU": size * 10**9 for size in (24, 40, 80, 141)}


class Cell(NamedTuple):
    """One figure: its value, what it is, what hovering tells, and whether it is bad news."""

    value: str
    name: str
    hover: str = ""
    bad: bool = False


def cells(option: Option, solution: Solution, device: Device | None) -> list[Cell]:
    """File, optimizer state, peak training memory, and its fit with the device (this machine where None)."""
    return [
        Cell(formatting.size(option.adapter_bytes), "file, at most", "four bytes a parameter and the header"),
        Cell(formatting.size(option.optimizer_bytes), "AdamW state", "two float32 moments a parameter"),
        *_memory(option, solution, device),
    ]


def _lengths(shapes: ModelShapes) -> tuple[int, ...]:
    """The lengths worth asking about: none for images, whose length is fixed; none beyond the model's positions."""
    details = dict(shapes.details)
    if "num_image_tokens" in details:
        return ()
    longest = details.get("max_positions", LENGTHS[-1])
    return tuple(length for length in LENGTHS if length <= longest) or (longest,)


def setting(shapes: ModelShapes) -> Setting:
    """The batch size, the length and the base's number format that memory is estimated for."""
    usual, lengths, small = usual_setting(shapes), _lengths(shapes), shapes.embedded
    length = st.session_state.get("memory-length", USUAL_LENGTH)
    return Setting(
        st.session_state.get(f"memory-batch-{small}", usual.batch_size),
        max((n for n in lengths if n <= length), default=lengths[0]) if lengths else None,
        st.session_state.get(f"memory-dtype-{small}", usual.dtype),
        st.session_state.get("memory-checkpointing", False),
    )


def device_picker() -> Device | None:
    """Asks where training would run; None while the reader has not said."""
    here = detect_device()
    options = [state.default("device"), THIS_MACHINE, *GPUS]
    name = st.selectbox(
        "Train on",
        options,
        index=0,
        format_func=lambda one: f"this machine, {formatting.size(here.total_bytes)}" if one == THIS_MACHINE else one,
        help="What does not fit is greyed, and the advice leaves it out.",
        **state.bound("device"),
    )
    if name == THIS_MACHINE:
        return here
    return None if name not in GPUS else Device(f"a {name}", "cuda", GPUS[name], GPUS[name])


def _memory(option: Option, solution: Solution, device: Device | None) -> list[Cell]:
    wanted, where = setting(solution.shapes), device or detect_device()
    try:
        estimate = training_memory(
            solution.shapes,
            solution.linears,
            option.components,
            batch_size=wanted.batch_size,
            length=wanted.length,
            dtype=wanted.dtype,
            gradient_checkpointing=wanted.gradient_checkpointing,
            device_type="cpu" if device is None else device.kind,
            indivisible=solution.indivisible,
        )
    except CdkaError as refusal:
        return [Cell("–", "memory", str(refusal)), Cell("–", "fits")]
    fit = fits(estimate, where)
    free = f"{formatting.size(where.free_bytes)} of {formatting.size(where.total_bytes)} free on {where.name}"
    return [
        Cell(
            formatting.size(estimate.total_bytes),
            f"memory ± {formatting.percent(TOLERANCE)}",
            f"peak while training, {wanted}: {_breakdown(estimate)}",
        ),
        Cell("fits" if fit else "does not fit", "this machine" if device is None else where.name, free, bad=not fit),
    ]


def _breakdown(estimate: MemoryEstimate) -> str:
    sizes = (
        ("frozen weights", estimate.weights_bytes),
        ("adapter, gradients, optimizer", estimate.adapter_bytes),
        ("activations", estimate.activations_bytes),
        ("logits", estimate.logits_bytes),
        ("largest temporary", estimate.working_bytes),
    )
    return "; ".join(f"{name} {formatting.size(value)}" for name, value in sizes)


def batch_popover(solution: Solution) -> None:
    """Asks for the batch, the length and the number format that the memory is estimated for."""
    shapes = solution.shapes
    wanted = setting(shapes)
    batch, length, dtype = wanted.batch_size, wanted.length, wanted.dtype
    lengths, small = _lengths(shapes), shapes.embedded
    what = f"Batch {batch}" + (f" × {length:,}" if length else "")
    with st.popover(what, width="stretch", help="What the memory is estimated for"):
        st.select_slider("Batch size", BATCHES, value=batch, **form_memory.kept(f"memory-batch-{small}"))
        if len(lengths) > 1:
            st.session_state["memory-length"] = length
            st.select_slider("Length (tokens)", lengths, **form_memory.kept("memory-length"))
        st.segmented_control(
            "Frozen weights in",
            [*DTYPE_BYTES, *QUANTIZED_BYTES],
            default=dtype,
            required=True,
            **form_memory.kept(f"memory-dtype-{small}"),
        )
        st.toggle(
            "Gradient checkpointing",
            key="memory-checkpointing",
            persist_state="session",
            help="Keeps one input per block and computes the rest twice: far less memory, about a third more time.",
        )
