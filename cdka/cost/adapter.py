"""The cost of an adapter: parameters of any method, file, optimizer, FLOPs. Arithmetic on shapes, free of torch.

The counts are those of PEFT's own layers; the tests compare them with what PEFT allocates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdka.components import Components
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.runs.resolve import ResolvedRun
from cdka.runs.spec import RunSpec

ADAPTER_BYTES_PER_PARAM = 4
"""Adapters are kept and saved in float32, also on a bfloat16 base (PEFT's autocast_adapter_dtype)."""
ADAM_BYTES_PER_PARAM = 8
"""Two float32 moments."""
GRADIENT_BYTES_PER_PARAM = 4
TRAINING_BYTES_PER_PARAM = ADAPTER_BYTES_PER_PARAM + GRADIENT_BYTES_PER_PARAM + ADAM_BYTES_PER_PARAM

_ENTRY = len('"base_model.model..cdka_A":{"dtype":"F32","shape":[,,],"data_offsets":[,]},')


def fitted_components(
    linears: Iterable[LinearShape], components: Components, indivisible: str = "error"
) -> list[tuple[LinearShape, Components | None]]:
    """The components that each layer gets, as ``CdkaConfig(indivisible=...)`` gives them; None where it is left out.

    Raises CdkaError for a layer that r1 or r2 does not divide where ``indivisible`` is ``error``.
    """
    return [(s, components.fitted(s.out_features, s.in_features, indivisible)) for s in linears]


def num_params(linears: Iterable[LinearShape], components: Components, indivisible: str = "error") -> int:
    """Trainable parameters over all layers, those of ``fitted_components``."""
    return sum(
        layer.count * own.num_params(layer.out_features, layer.in_features)
        for layer, own in fitted_components(linears, components, indivisible)
        if own is not None
    )


def num_modules(linears: Iterable[LinearShape]) -> int:
    """The number of adapted layers."""
    return sum(linear.count for linear in linears)


def full_params(linears: Iterable[LinearShape]) -> int:
    """Weights of the layers: what full fine-tuning of the same modules trains, biases not counted."""
    return sum(linear.num_weights for linear in linears)


def file_overhead_bytes(linears: Sequence[LinearShape]) -> int:
    """An upper bound on what a safetensors file holds beside the tensors: its header names every tensor.

    Counts the longest numbers that can occur, so that a budget in bytes is kept; too high by less than a quarter.
    """
    digits = len(str(ADAPTER_BYTES_PER_PARAM * max(full_params(linears), 1)))
    index_digits = 3  # layer indices up to 999
    total = 8 + len('{"__metadata__":{"format":"pt"}}') + 8
    for linear in linears:
        sizes = len(str(linear.out_features)) + len(str(linear.in_features)) + 4
        path = len(linear.path) + linear.path.count("*") * (index_digits - 1)
        total += 2 * linear.count * (_ENTRY + path + sizes + 2 * digits)
    return total


def adapter_bytes(linears: Sequence[LinearShape], params: int) -> int:
    """Size of the saved adapter file, at most: four bytes a parameter and the header."""
    return ADAPTER_BYTES_PER_PARAM * params + file_overhead_bytes(linears)


def flops_per_token(linears: Iterable[LinearShape], components: Components) -> int:
    """Extra forward FLOPs on one token over all layers (a backward pass costs about twice that)."""
    return sum(s.count * components.flops_per_token(s.out_features, s.in_features) for s in linears)


def forward_flops_per_token(shapes: ModelShapes) -> int:
    """Forward FLOPs of the base model's linear layers on one token: two per weight, heads included.

    Fused experts count for the share of them that one token visits; attention over positions is not counted.
    """
    weights = sum(s.num_weights for s in shapes.linears)
    details = dict(shapes.details)
    experts = details.get("expert_params", 0)
    if experts:
        weights += experts * details.get("experts_per_token", 1) // details.get("num_experts", 1)
    return 2 * weights


def lokr_factors(dimension: int, factor: int = -1) -> tuple[int, int]:
    """The two sides that PEFT's LoKr splits a dimension into, the smaller first.

    A ``factor`` that divides is taken; else the most balanced divisors whose smaller side is at most ``factor``
    (-1: no limit).
    """
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    limit = dimension if factor == -1 else factor
    small = max(d for d in range(1, int(dimension**0.5) + 1) if dimension % d == 0 and d <= max(1, limit))
    return small, dimension // small


def layer_params(spec: RunSpec, layer: LinearShape, components: Components | None = None) -> int:
    """Trainable parameters that ``spec`` puts on one layer of this shape."""
    out_features, in_features = layer.out_features, layer.in_features
    if spec.method == "cdka":
        return (components or spec.components).num_params(out_features, in_features)
    if spec.method == "full":
        return out_features * in_features
    if spec.method == "lokr":
        out_small, out_large = lokr_factors(out_features, spec.lokr_factor)
        in_small, in_large = lokr_factors(in_features, spec.lokr_factor)
        whole = spec.rank >= max(out_large, in_large) / 2
        return out_small * in_small + (out_large * in_large if whole else spec.rank * (out_large + in_large))
    magnitudes = out_features if spec.method == "dora" else 0
    return spec.rank * (out_features + in_features) + magnitudes


def count_params(run: ResolvedRun) -> int:
    """Trainable parameters of the whole run; the base's own number for full fine-tuning."""
    if run.spec.method == "full":
        return run.shapes.base_params
    return sum(layer.count * layer_params(run.spec, layer.linear, layer.components) for layer in run.layers)
