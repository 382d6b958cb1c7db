"""What an option costs beyond its parameters: file, optimizer, arithmetic, and memory for a batch and a length."""

from __future__ import annotations

import streamlit as st

from app import parts, words
from cdka.errors import CdkaError
from cdka.memory import DTYPE_BYTES, TOLERANCE, MemoryEstimate, detect_device, fits, training_memory
from cdka.solver import Option, Solution

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def show(option: Option, solution: Solution) -> None:
    """The costs as a small table, with the batch, length and number format they are for."""
    flops = f"{words.count(option.flops_per_token)}FLOP, {words.percent(option.flops_overhead)}"
    rows = [
        ("adapter file, at most", words.size(option.adapter_bytes), ""),
        ("optimizer state (AdamW)", words.size(option.optimizer_bytes), ""),
        ("extra arithmetic per token", flops, "forward, as a share of the base model's"),
        *_memory(option, solution),
    ]
    body = "".join(f'<tr title="{hover}"><td>{name}</td><td>{value}</td></tr>' for name, value, hover in rows)
    parts.show(f'<table class="cdka-costs">{body}</table>')
    _ask(solution)


def _settings(solution: Solution) -> tuple[int, int | None, str]:
    """Batch size, length in tokens (None for images, where it is fixed), and the base model's number format."""
    image = "num_image_tokens" in dict(solution.shapes.details)
    return (
        st.session_state.get(f"memory-batch-{solution.shapes.embedded}", 64 if image else 8),
        None if image else st.session_state.get("memory-length", 512),
        st.session_state.get(
            f"memory-dtype-{solution.shapes.embedded}", "float32" if solution.shapes.embedded else "bfloat16"
        ),
    )


def _memory(option: Option, solution: Solution) -> list[tuple[str, str, str]]:
    batch, length, dtype = _settings(solution)
    try:
        estimate = training_memory(
            solution.shapes, solution.linears, option.components, batch_size=batch, length=length, dtype=dtype
        )
    except CdkaError as refusal:
        return [("training memory", "not known", str(refusal))]
    device = detect_device()
    verdict = "fits" if fits(estimate, device) else "does not fit"
    what = f"memory, batch {batch}" + (f" × {length:,} tokens" if length else "")
    return [
        (what, f"{words.size(estimate.total_bytes)} ± {TOLERANCE:.0%}", _breakdown(estimate)),
        (device.name, f"{verdict}, {words.size(device.free_bytes)} free", f"of {words.size(device.total_bytes)}"),
    ]


def _breakdown(estimate: MemoryEstimate) -> str:
    told = (
        ("frozen weights", estimate.weights_bytes), ("adapter, gradients, optimizer", estimate.adapter_bytes),
        ("activations", estimate.activations_bytes), ("logits", estimate.logits_bytes),
        ("largest temporary", estimate.working_bytes),
    )  # fmt: skip
    return "; ".join(f"{name} {words.size(value)}" for name, value in told)


def _ask(solution: Solution) -> None:
    batch, length, dtype = _settings(solution)
    embedded = solution.shapes.embedded
    with st.popover("Memory for another batch"):
        st.select_slider("Batch size", BATCHES, value=batch, key=f"memory-batch-{embedded}", persist_state="session")
        if length is not None:
            st.select_slider("Length (tokens)", LENGTHS, value=length, key="memory-length", persist_state="session")
        st.segmented_control(
            "Frozen weights in", list(DTYPE_BYTES), default=dtype, required=True, key=f"memory-dtype-{embedded}",
            persist_state="session",
        )  # fmt: skip
