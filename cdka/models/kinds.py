"""The kinds of task that a model can be trained for, judged by its configuration. Free of torch."""

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
