"""Trainable parameters of a run before anything is loaded, for every method. Free of torch.

The counts are those of PEFT's own layers; the tests compare them with what PEFT allocates.
"""

from __future__ import annotations

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.finetune.spec import RunSpec
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import select


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


def components_for(spec: RunSpec, path: str) -> Components:
    """The components at one module, ``component_pattern`` considered as PEFT considers ``rank_pattern``."""
    for name, components in spec.component_pattern.items():
        if path == name or path.endswith(f".{name}"):
            return components
    return spec.components


def count_params(spec: RunSpec, shapes: ModelShapes) -> int:
    """Trainable parameters of the whole run; the base's own number for full fine-tuning.

    Raises CdkaError naming every target module that the components do not divide.
    """
    if spec.method == "full":
        return shapes.base_params
    layers = select(shapes, spec.target_modules)
    if spec.method != "cdka":
        return sum(layer.count * layer_params(spec, layer) for layer in layers)
    placed = [(layer, components_for(spec, layer.path)) for layer in layers]
    problems = [p for layer, c in placed for p in c.problems(layer.out_features, layer.in_features, layer.name)]
    if problems:
        raise CdkaError(" ".join(dict.fromkeys(problems)))
    return sum(layer.count * layer_params(spec, layer, components) for layer, components in placed)
