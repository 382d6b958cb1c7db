"""The linear layers of a model as plain data: all that the solver needs. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ROLES = ("attention", "mlp", "head", "embedding", "other")
FORMAT = 1
"""Version of the JSON document of shapes."""


@dataclass(frozen=True)
class LinearShape:
    """One kind of linear layer and how often it occurs.

    ``path`` is the module's full name with every layer index written ``*``
    (``model.layers.*.self_attn.q_proj``), so that PEFT's matching rule (equal, or ends with ``.name``) can be
    applied to it. ``count`` is the number of modules that share the path and the shape.
    """

    path: str
    in_features: int
    out_features: int
    count: int
    role: str

    @property
    def name(self) -> str:
        """The last part of the path, what PEFT users write as a target module: ``q_proj``."""
        return self.path.rsplit(".", 1)[-1]

    @property
    def num_weights(self) -> int:
        """Weights of all ``count`` layers, biases not counted."""
        return self.in_features * self.out_features * self.count


@dataclass(frozen=True)
class ModelShapes:
    """A model without its weights: name, Hub id, family, number of parameters, linear layers."""

    name: str
    hub_id: str | None
    family: str
    kind: str
    base_params: int
    linears: tuple[LinearShape, ...]
    licence: str = ""
    embedded: bool = False
    details: tuple[tuple[str, int], ...] = ()
    """Dimensions that memory estimates need: hidden_size, num_layers, vocab_size, num_heads, ..."""


_FIELDS = ("name", "hub_id", "family", "kind", "licence", "embedded", "base_params")


def to_json(shapes: ModelShapes) -> dict[str, Any]:
    """Plain data for JSON; ``from_json`` is its inverse."""
    document: dict[str, Any] = {key: getattr(shapes, key) for key in _FIELDS}
    document["details"] = dict(shapes.details)
    document["linears"] = [[s.path, s.in_features, s.out_features, s.count, s.role] for s in shapes.linears]
    return document


def from_json(document: dict[str, Any]) -> ModelShapes:
    """The shapes that ``to_json`` wrote."""
    return ModelShapes(
        **{key: document[key] for key in _FIELDS},
        details=tuple(document["details"].items()),
        linears=tuple(LinearShape(*row) for row in document["linears"]),
    )
