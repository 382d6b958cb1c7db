"""Trainable parameters of a run before anything is loaded, for every method. Free of torch.

The counts are those of PEFT's own layers; the tests compare them with what PEFT allocates.
"""

from __future__ import annotations

from cdka.components import Components
from cdka.models.shapes import LinearShape
from cdka.runs.resolve import ResolvedRun
from cdka.runs.spec import RunSpec


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
