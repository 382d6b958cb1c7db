"""What a model can be trained for, judged by its configuration. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    """The kind of task that a config.json's model is for; "other" for a text encoder without a head.

    A model that sees and writes is ``image-text``. A backbone that takes pictures (ViT, DINOv2, the vision tower of
    CLIP) is ``image-classification``: a head can be put on it.
    """
    architecture = str((config.get("architectures") or [""])[0])
    kind = next((kind for ending, kind in _ENDINGS.items() if architecture.endswith(ending)), "other")
    vision = config.get("vision_config") or {}
    if vision and kind in GENERATIVE:
        return "image-text"
    if kind == "other" and takes_pictures(config):
        return "image-classification"
    return kind


def takes_pictures(config: Mapping[str, Any]) -> bool:
    """Returns True for a model with an input for pixels."""
    vision = config.get("vision_config") or config
    return bool(config.get("vision_config") or vision.get("image_size") or vision.get("num_channels"))
