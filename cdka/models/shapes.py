"""A model as plain data: its linear layers, all that the solver needs, and the kind of its tasks. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
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


GENERATIVE = ("causal-lm", "seq2seq")
_ENDINGS = {
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForConditionalGeneration": "seq2seq",
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForImageTextToText": "image-text",
}


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of task that a config.json's model is for; "other" for one that reads neither text nor pictures.

    A model that sees and writes is ``image-text``. A backbone without a head is of the kind of the head that can be put
    on it: ``image-classification`` for one that takes pictures (ViT, DINOv2, the vision tower of CLIP), else
    ``text-classification``.
    """
    architecture = str((config.get("architectures") or [""])[0])
    kind = next((kind for ending, kind in _ENDINGS.items() if architecture.endswith(ending)), "other")
    if config.get("vision_config") and kind in GENERATIVE:
        return "image-text"
    if config.get("is_encoder_decoder") and kind != "image-text":
        return "seq2seq"
    if kind != "other":
        return kind
    if takes_pictures(config):
        return "image-classification"
    text = config.get("text_config") or config
    return "text-classification" if text.get("vocab_size") else "other"


def takes_pictures(config: Mapping[str, Any]) -> bool:
    """Returns True for a model with an input for pixels."""
    vision = config.get("vision_config") or config
    return bool(config.get("vision_config") or vision.get("image_size") or vision.get("num_channels"))
