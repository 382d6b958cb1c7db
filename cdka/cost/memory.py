"""Peak memory of training an adapter, estimated from shapes; and whether that fits this machine. Free of torch.

The estimate counts what autograd keeps for the backward pass of a transformer whose base is frozen, layer by layer,
as our adapter and PyTorch's own operations keep it; ``python -m cdka.bench.memory`` measures the same and compares.
(ours)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from cdka.components import Components
from cdka.cost.adapter import (
    ADAM_BYTES_PER_PARAM,
    ADAPTER_BYTES_PER_PARAM,
    GRADIENT_BYTES_PER_PARAM,
    TRAINING_BYTES_PER_PARAM,
    fitted_components,
)
from cdka.cost.kernels import form_of
from cdka.errors import CdkaError
from cdka.machine import Device, multiplies_bfloat16
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.runs.resolve import ResolvedRun

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED_BYTES = {"int8": 1.0, "nf4": 0.5625}
"""Bytes of a frozen weight of a linear layer, bitsandbytes' own block constants (one float32 for 64) included; the rest
of the model stays in bfloat16."""
TOLERANCE = 0.15
"""The allowed distance of the estimate from a measured peak, as a share of it: what the validation allows."""
LOGITS_LIMIT_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}
"""Our training loop makes the logits of a large vocabulary in pieces of this size (cdka/train/forward.py)."""
PASS_LIMIT_BYTES = 640 * 2**20
"""On a CPU a batch goes through the model in parts whose activations take no more: larger ones are no faster there."""
LARGE_PARAMS = 20_000_000
"""A model of so many parameters may train faster on more threads than its share of the CPU (ours)."""
HALF_PARAMS = 50_000_000
"""A frozen base of so many parameters is in bfloat16 by itself where the CPU multiplies it fast (ours)."""
Placed = Sequence[tuple[LinearShape, Components]]
"""The adapted layers, each with its components."""
_OUTPUT_NAMES = {"o_proj", "out_proj", "o", "dense", "c_proj", "wo", "down_proj", "fc2", "dense_4h_to_h", "Wo"}
_STEPWISE_GELU = ("GPT-2", "gpt2")
_SOFT_CAPPED = ("Gemma 2", "gemma2")
_QUERY_NORMS = ("Qwen3", "qwen3", "Gemma 3", "gemma3", "gemma3_text")


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak training memory in bytes, by what it is spent on; ``total_bytes`` is what an allocator would report.

    ``weights_bytes``: the frozen base. ``adapter_bytes``: parameters, gradients and AdamW's moments of the adapter.
    ``activations_bytes``: kept for the backward pass. ``logits_bytes``: the output layer and its loss.
    ``working_bytes``: the largest temporary. Not included: the process itself (about 0.5 GB with its libraries, and
    about 0.5 GB of context on a GPU).
    """

    weights_bytes: int
    adapter_bytes: int
    activations_bytes: int
    logits_bytes: int
    working_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum: all of it is alive at the start of the backward pass."""
        parts = (self.weights_bytes, self.adapter_bytes, self.activations_bytes, self.logits_bytes, self.working_bytes)
        return sum(parts)


def training_memory(
    shapes: ModelShapes,
    linears: Sequence[LinearShape],
    components: Components,
    *,
    batch_size: int,
    length: int | None = None,
    dtype: str = "float32",
    gradient_checkpointing: bool = False,
    device_type: str | None = None,
    indivisible: str = "error",
) -> MemoryEstimate:
    """Estimated peak memory of one training step with this adapter on ``linears``.

    A layer that r1 or r2 does not divide counts with what ``indivisible`` gives it, as in ``fitted_components``.
    ``length`` is in tokens per example; for vision models it follows from the image size. ``dtype`` is that of the
    frozen base; ``device_type`` is cpu or cuda, by default what that dtype is usual on. Raises CdkaError for a model
    whose dimensions are unknown, or sizes that are not positive.
    """
    details = dict(shapes.details)
    if dtype not in (*DTYPE_BYTES, *QUANTIZED_BYTES):
        raise CdkaError(f"dtype must be one of {', '.join((*DTYPE_BYTES, *QUANTIZED_BYTES))}: got {dtype!r}.")
    length = details.get("num_image_tokens") if length is None else length
    for name, value in (("batch_size", batch_size), ("length", length)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CdkaError(f"{name} must be a positive integer: got {value!r}. Example: {name}=32.")
    if "hidden_size" not in details or "num_layers" not in details:
        raise CdkaError(f"a memory estimate needs hidden_size and num_layers: {shapes.name!r} does not give them.")
    size = DTYPE_BYTES.get(dtype, 2)
    where = device_type or ("cpu" if dtype == "float32" else "cuda")
    tokens = batch_size * length
    fitted = fitted_components(linears, components, indivisible)
    placed = [(linear, own) for linear, own in fitted if own is not None]
    params = sum(s.count * own.num_params(s.out_features, s.in_features) for s, own in placed)
    layers = num_blocks(shapes)
    kept = tokens * _kept_bytes_per_token(shapes, placed, details, size, length)
    if gradient_checkpointing:  # one input per block, and one block at a time recomputed
        kept = tokens * layers * details["hidden_size"] * size + kept // layers
    widest = max((max(s.in_features, s.out_features) for s, _ in placed), default=0)
    return MemoryEstimate(
        weights_bytes=_weights_bytes(shapes, dtype),
        adapter_bytes=params * (ADAPTER_BYTES_PER_PARAM + GRADIENT_BYTES_PER_PARAM + ADAM_BYTES_PER_PARAM)
        + _factor_bytes(placed, size, tokens, where),
        activations_bytes=int(kept),
        logits_bytes=_logits_bytes(shapes, details, tokens, batch_size, size, where),
        working_bytes=3 * tokens * widest * size,
    )


def num_blocks(shapes: ModelShapes) -> int:
    """The transformer blocks of a model, those of its decoder included; at least 1."""
    details = dict(shapes.details)
    return max(1, details["num_layers"] + details.get("num_decoder_layers", 0))


def _weights_bytes(shapes: ModelShapes, dtype: str) -> int:
    if dtype in DTYPE_BYTES:
        return shapes.base_params * DTYPE_BYTES[dtype]
    linear = sum(
        s.count * s.in_features * s.out_features for s in shapes.linears if s.role not in ("head", "embedding")
    )
    return int(linear * QUANTIZED_BYTES[dtype] + (shapes.base_params - linear) * 2)


def _kept_bytes_per_token(shapes, placed: Placed, details: dict, size: int, length: int) -> int:
    """Bytes that the backward pass needs of one token, over all layers."""
    adapted = {s.path for s, _ in placed}
    body = [s for s in shapes.linears if s.role not in ("head", "embedding")]
    norm_bytes = 4 if _is_rms(shapes) else size  # an RMS norm keeps its input in float32
    total = 0
    inputs: dict[tuple, int] = {}
    for linear in body:
        if linear.role == "attention":  # keeps queries, keys, values, and its result, which the output layer reads
            total += linear.count * (linear.in_features if _is_output(linear) else linear.out_features) * size
        if linear.path in adapted and not (linear.role == "attention" and _is_output(linear)):
            inputs[_source(linear)] = linear.count * linear.in_features
        if linear.role == "attention" and linear.name in ("q_proj", "k_proj") and shapes.family in _QUERY_NORMS:
            total += linear.count * linear.out_features * norm_bytes
        if linear.role == "mlp":
            total += linear.count * _activation_elements(shapes, linear) * size
    total += sum(inputs.values()) * size
    layers = details["num_layers"] + details.get("num_decoder_layers", 0)
    norms_per_layer = 4 if shapes.family.startswith("Gemma") else 2
    total += layers * norms_per_layer * details["hidden_size"] * norm_bytes
    if shapes.family in _SOFT_CAPPED:  # attention written out: soft-capped scores and their softmax
        total += 2 * layers * details.get("num_heads", 1) * length * size
    # what the adapter keeps between A and B
    return total + size * sum(s.count * own.r * own.r1 * own.r2 for s, own in placed)


def _activation_elements(shapes: ModelShapes, linear: LinearShape) -> int:
    """Bytes between the first and the last matrix of an MLP, charged to the first: input and result of each step.

    The input of the last matrix is counted where that is adapted. A gate keeps its input, its value and the other
    factor; GELU keeps its input; its tanh form, written out in steps, keeps five.
    """
    if _is_output(linear):
        return 0
    if linear.name in ("gate_proj", "wi_0"):
        return 2 * linear.out_features
    if linear.name == "gate_up_proj":
        return 3 * linear.out_features // 2
    if linear.name in ("up_proj", "wi_1"):
        return linear.out_features
    return (5 if shapes.family in _STEPWISE_GELU else 1) * linear.out_features


def _is_output(linear: LinearShape) -> bool:
    return linear.name in _OUTPUT_NAMES and ".intermediate." not in linear.path


def _source(linear: LinearShape) -> tuple:
    """Layers with equal keys read the same tensor, which is kept once."""
    parent = linear.path.rsplit(".", 1)[0]
    return (linear.path,) if _is_output(linear) else (parent, linear.in_features, linear.role)


def _is_rms(shapes: ModelShapes) -> bool:
    return any(s.name in ("gate_proj", "gate_up_proj", "wi_0") or "DenseReluDense" in s.path for s in shapes.linears)


def _factor_bytes(placed: Placed, size: int, tokens: int, device_type: str) -> int:
    """B as each layer's form wants it, and A where it is cast: kept for the backward pass."""
    total = 0
    for s, own in placed:
        r1, r2, r = own.as_tuple()
        expanded = form_of(tokens, r1, r2, r, s.in_features, device_type) == "expanded"
        total += s.count * s.out_features * r * r2 * r1 // (1 if expanded else r1 * r1)
        total += s.count * r * r1 * s.in_features // r2 if size < 4 else 0
    return size * total


def _logits_bytes(shapes: ModelShapes, details: dict, tokens: int, batch_size: int, size: int, device_type: str) -> int:
    if shapes.kind in ("causal-lm", "seq2seq"):
        # logits, float32 copy (none if they are float32), log-softmax and its gradient
        per_logit = size + (4 if size < 4 else 0) + 8 + (2 * size if shapes.family in _SOFT_CAPPED else 0)
        vocabulary = max(1, details.get("vocab_size", 1))
        piece = max(1, LOGITS_LIMIT_BYTES[device_type] // (4 * vocabulary))
        if tokens <= piece or shapes.family in _SOFT_CAPPED:  # the logits of these are made at once, whatever it takes
            return tokens * vocabulary * per_logit
        return piece * vocabulary * (size + (4 if size < 4 else 0))  # a piece becomes its own gradient in place
    return batch_size * details.get("num_labels", 2) * 4 * 3


PROCESS_BYTES = 600_000_000
"""Memory of Python, torch and transformers before the first tensor."""


def fits(estimate: MemoryEstimate, device: Device) -> bool:
    """True where the estimate, with its tolerance and the process itself, is below the device's free memory."""
    return estimate.total_bytes * (1 + TOLERANCE) + PROCESS_BYTES <= device.free_bytes


def run_memory(run: ResolvedRun, device_type: str = "cpu") -> MemoryEstimate | None:
    """The memory of one run on a device of type cpu or cuda; None where the model's dimensions are not known.

    One part of ``gradient_accumulation`` is in memory at a time, on a CPU at most ``PASS_LIMIT_BYTES`` of it. On cuda,
    ``auto`` is bfloat16, except for full fine-tuning. LoRA and its kin are counted as (1, 1, rank).
    """
    return _of_rows(run, pass_rows(run, device_type), device_type)


def pass_rows(run: ResolvedRun, device_type: str) -> int:
    """The examples of a batch that are in memory at a time, which ``run_memory`` counts."""
    rows = -(-run.spec.batch_size // run.spec.gradient_accumulation)
    estimate = _of_rows(run, rows, device_type)
    if estimate is None or device_type != "cpu" or estimate.activations_bytes <= PASS_LIMIT_BYTES:
        return rows
    return max(1, rows * PASS_LIMIT_BYTES // estimate.activations_bytes)


def memory_basis(run: ResolvedRun, device_type: str) -> str:
    """The tokens that ``run_memory`` counts: ``8 of a batch of 32 at a time, 512 tokens each, on the CPU``."""
    rows, length = pass_rows(run, device_type), _length(run)
    part = f"a batch of {rows}" if rows >= run.spec.batch_size else f"{rows} of a batch of {run.spec.batch_size}"
    where = "the CPU" if device_type == "cpu" else "a GPU"
    return f"{part} at a time, {length:,} tokens each, on {where}"


def _length(run: ResolvedRun) -> int:
    """Tokens of an example: an image's, or those that the run expects."""
    return dict(run.shapes.details).get("num_image_tokens") or run.spec.expected_length


def pass_tokens(run: ResolvedRun, device_type: str) -> int | None:
    """The tokens, padding included, that go through the model at a time; None where there is no limit to keep to.

    That is on a CPU, for a model whose dimensions are known: as many as ``PASS_LIMIT_BYTES`` of activations take.
    """
    estimate = _of_rows(run, 1, device_type) if device_type == "cpu" else None
    if estimate is None:
        return None
    tokens = _length(run)
    return max(1, PASS_LIMIT_BYTES * tokens // max(1, estimate.activations_bytes))


def auto_is_half(device_type: str, base_params: int) -> bool:
    """True where the dtype ``auto`` of a frozen base is bfloat16: on a GPU, and for a large model on a CPU with AMX.

    Small models stay in float32 on a CPU: they are as fast, and their numbers comparable between machines.
    """
    return device_type == "cuda" or (base_params >= HALF_PARAMS and multiplies_bfloat16())


def _of_rows(run: ResolvedRun, rows: int, device_type: str) -> MemoryEstimate | None:
    """The memory of a run that has ``rows`` examples in a pass."""
    spec = run.spec
    half = spec.dtype == "auto" and spec.method != "full" and auto_is_half(device_type, run.shapes.base_params)
    try:
        estimate = _cached(
            run.shapes,
            tuple(layer.linear for layer in run.layers),
            spec.components or Components(1, 1, spec.rank or 1),
            rows,
            _length(run),
            "bfloat16" if half else "float32" if spec.dtype in ("auto", "float64") else spec.dtype,
            spec.gradient_checkpointing,
            device_type,
            spec.indivisible,
        )
    except CdkaError:
        return None
    if spec.method == "full":
        trained = run.shapes.base_params * TRAINING_BYTES_PER_PARAM
        estimate = replace(estimate, adapter_bytes=estimate.adapter_bytes + trained)
    return estimate if spec.dtype != "float64" else MemoryEstimate(*(2 * size for size in vars(estimate).values()))


def job_bytes(runs: Sequence[ResolvedRun], device_type: str = "cpu") -> int | None:
    """Peak memory of the process that trains ``runs`` together: one base, everything else per run.

    The runs of a pack share the limits of a pass. None where the model's dimensions are not known.
    """
    estimates = [estimate for run in runs if (estimate := run_memory(run, device_type)) is not None]
    if len(estimates) < len(runs):
        return None
    own = sum(estimate.total_bytes - estimate.weights_bytes for estimate in estimates)
    if device_type == "cpu":
        kept = sum(estimate.activations_bytes for estimate in estimates)
        own -= max(0, kept - max(PASS_LIMIT_BYTES, *(one.activations_bytes for one in estimates)))
    return PROCESS_BYTES + own + estimates[-1].weights_bytes


@lru_cache(maxsize=1024)
def _cached(
    shapes: ModelShapes,
    linears: tuple[LinearShape, ...],
    components: Components,
    batch_size: int,
    length: int,
    dtype: str,
    gradient_checkpointing: bool,
    device_type: str,
    indivisible: str,
) -> MemoryEstimate:
    return training_memory(
        shapes,
        linears,
        components,
        batch_size=batch_size,
        length=length,
        dtype=dtype,
        gradient_checkpointing=gradient_checkpointing,
        device_type=device_type,
        indivisible=indivisible,
    )
