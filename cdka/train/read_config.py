"""From a config.json to shapes, on the meta device.

``read`` runs in a child process, because it imports torch and transformers. No weights are read and no code of the
model's repository is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.models.kinds import kind_of
from cdka.models.shapes import ModelShapes, to_json

_DIMENSIONS = {
    "hidden_size": ("hidden_size", "d_model", "n_embd", "dim"),
    "num_layers": ("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    "num_heads": ("num_attention_heads", "num_heads", "n_head", "n_heads"),
    "num_kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim", "d_kv"),
    "intermediate_size": ("intermediate_size", "d_ff", "n_inner", "hidden_dim"),
    "vocab_size": ("vocab_size",),
    "num_labels": ("num_labels",),
    "num_experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "experts_per_token": ("num_experts_per_tok",),
    "max_positions": ("max_position_embeddings", "n_positions"),
}


def details_of(config: Any, model: Any) -> tuple[tuple[str, int], ...]:
    """The dimensions that memory estimates need, under one set of names; what a model does not have is left out."""
    from cdka.train.introspect import fused_expert_params

    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found: dict[str, int] = {}
    for name, spellings in _DIMENSIONS.items():
        values = [getattr(source, key, None) for source in (text, config) for key in spellings]
        value = next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)
        if value is not None:
            found[name] = value
    if getattr(config, "num_decoder_layers", None) and config.is_encoder_decoder:
        found["num_decoder_layers"] = config.num_decoder_layers
    vision = getattr(config, "vision_config", None) or config
    if getattr(vision, "image_size", None) and getattr(vision, "patch_size", None):
        found["num_image_tokens"] = (vision.image_size // vision.patch_size) ** 2 + 1
        if vision is config:
            found.pop("vocab_size", None)
    if found.get("num_image_tokens") and model.get_output_embeddings() is not None:
        # a language model that sees: how long its sequences are, and what its tower takes, dimensions do not say
        for name in ("num_image_tokens", "num_layers"):
            del found[name]
    experts = fused_expert_params(model)
    if experts:  # fused experts are parameters, not linear layers: no adapter reaches them, but they cost FLOPs
        found["expert_params"] = experts
    else:
        found.pop("num_experts", None)
        found.pop("experts_per_token", None)
    return tuple(found.items())


def shapes_from_config(
    config: Mapping[str, Any], name: str, *, hub_id: str | None = None, family: str = "", kind: str = "", **facts: Any
) -> ModelShapes:
    """Shapes of the model that ``config`` (the content of a config.json) describes, built on the meta device.

    Raises CdkaError where transformers does not know the architecture.
    """
    config = dict(config)
    model_type = config.pop("model_type", None)
    architecture = (config.get("architectures") or [""])[0]
    if not model_type:
        raise CdkaError(f"config.json must name a model_type: none for {name!r}. Give a transformers model.")
    import torch
    import transformers
    from transformers import AutoConfig, AutoModel

    from cdka.train.introspect import shapes_of

    try:
        built = AutoConfig.for_model(model_type, **config)
    except (ValueError, KeyError):
        raise CdkaError(
            f"transformers {transformers.__version__} does not know model_type {model_type!r} of {name!r}, and code "
            "from the model's repository is never run. Update transformers, or give the (out, in) shapes."
        ) from None
    model_class = getattr(transformers, architecture, None)
    with torch.device("meta"):
        model = model_class(built) if model_class is not None else AutoModel.from_config(built)
    shapes = shapes_of(
        model,
        name,
        family=family or model_type,
        kind=kind or kind_of({**built.to_dict(), "architectures": [architecture]}),
        details=details_of(built, model),
        **facts,
    )
    return ModelShapes(**{**vars(shapes), "hub_id": hub_id})


def read(config: str, name: str) -> dict[str, Any]:
    """The shapes of the config.json at the path ``config``, as the catalogue keeps them. Raises CdkaError."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # the config is here; nothing else may be fetched
    return to_json(shapes_from_config(json.loads(Path(config).read_text(encoding="utf-8")), name))
