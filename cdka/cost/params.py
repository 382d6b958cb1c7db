"""Trainable parameters of a run before anything is loaded, for every method. Free of torch.

The counts are those of PEFT's own layers; the tests compare them with what PEFT allocates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from cdka.components import Components
from cdka.errors import CdkaError, unknown
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import paths_of, select
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


def placed_components(spec: RunSpec, layers: Sequence[LinearShape]) -> list[tuple[LinearShape, Components, int]]:
    """Counts of layers of each kind by their components, ``component_pattern`` read as PEFT reads ``rank_pattern``.

    A key is a regular expression for the whole path or for its end after a dot; the first that matches decides.
    Raises CdkaError for a key that matches no layer.
    """
    if not spec.component_pattern:
        return [(layer, spec.components, layer.count) for layer in layers]
    expressions = {key: _expression(key) for key in spec.component_pattern}
    placed: Counter[tuple[LinearShape, Components]] = Counter()
    used: set[str] = set()
    for layer in layers:
        for paths in paths_of(layer):
            key = next((k for k, e in expressions.items() if any(e.match(path) for path in paths)), None)
            used.update(() if key is None else (key,))
            placed[layer, spec.component_pattern.get(key, spec.components)] += 1
    for key in expressions:
        if key not in used:
            names = list(dict.fromkeys(layer.name for layer in layers))
            known = f"Known: {', '.join(names)}."
            raise unknown("module", key, names, where="in component_pattern", next_step=known)
    return [(layer, components, count) for (layer, components), count in placed.items()]


def _expression(key: str) -> re.Pattern[str]:
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except re.error as error:
        raise CdkaError(
            f"component_pattern is keyed by names or regular expressions: got {key!r} ({error}). Example: q_proj."
        ) from None


def count_params(spec: RunSpec, shapes: ModelShapes) -> int:
    """Trainable parameters of the whole run; the base's own number for full fine-tuning.

    Raises CdkaError naming every target module that the components do not divide.
    """
    if spec.method == "full":
        return shapes.base_params
    layers = select(shapes, spec.target_modules)
    if spec.method != "cdka":
        return sum(layer.count * layer_params(spec, layer) for layer in layers)
    placed = placed_components(spec, layers)
    where: dict[str, list[str]] = {}
    for layer, components, _ in placed:
        for problem in components.problems(layer.out_features, layer.in_features):
            where.setdefault(problem, []).append(f"'{layer.name}'")
    if where:
        raise CdkaError(" ".join(f"{problem} In {', '.join(names)}." for problem, names in where.items()))
    return sum(count * layer_params(spec, layer, components) for layer, components, count in placed)
