"""Read a model's config, and the linear layers of a torch model (on any device, meta included) into plain shapes."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D

from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape, ModelShapes, kind_of, to_json

_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")
_ATTENTION = re.compile(
    r"attn|attention|(^|[._])([qkvo]_?proj|q_lin|k_lin|v_lin|query|key|value|qkv)($|[._])|SelfAttention", re.I
)
_MLP = re.compile(
    r"mlp|ffn|feed_forward|DenseReluDense|intermediate|(^|\.)fc\d|expert|dense_|\.output\.dense|lin[12]$", re.I
)
_HEAD_NAMES = {"lm_head", "classifier", "score", "qa_outputs", "pooler", "pre_classifier", "embed_out", "cls", "head"}


_ATTENTION_KERNELS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def load_config(folder: str | Path) -> Any:
    """The config of the model in ``folder``, as every part of the program sees it; transformers' errors pass.

    No code of the model's repository runs, and a wish for attention from elsewhere is dropped: transformers would
    fetch and run it.
    """
    return _own_attention(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def _own_attention(config: Any) -> Any:
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type"):
            _own_attention(value)
        elif name.endswith("_implementation_internal") and value is not None and value not in _ATTENTION_KERNELS:
            setattr(config, name, None)
    return config


def template(path: str) -> str:
    """A module's path with every layer index written ``*``."""
    return _INDEX.sub("*", path)


def role_of(path: str, *, is_output_head: bool = False) -> str:
    """The role of a linear layer by its path: attention, MLP, head, or another."""
    parts = set(path.split("."))
    if is_output_head or parts & _HEAD_NAMES:
        return "head"
    if _ATTENTION.search(path):
        return "attention"
    return "mlp" if _MLP.search(path) else "other"


def linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    """(out_features, in_features) of a linear layer or a transformers Conv1D; None for anything else."""
    if isinstance(module, Conv1D):
        return module.nf, module.nx
    return (module.out_features, module.in_features) if isinstance(module, nn.Linear) else None


def fused_expert_params(model: nn.Module) -> int:
    """The weights of experts that are one parameter for all (3 dimensions): no linear layers, so never adapted."""
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 3 and "expert" in name)


def shapes_of(model: nn.Module, name: str, *, family: str = "", kind: str = "", **facts: object) -> ModelShapes:
    """The shapes of every linear layer of ``model``, counted by path template and size.

    Tied weights count once in ``base_params``, as torch's own parameter list does.
    """
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found: Counter[tuple[str, int, int, str]] = Counter()
    for path, module in model.named_modules():
        sizes = linear_sizes(module)
        if sizes is not None:
            role = role_of(path, is_output_head=module is output)
            found[template(path), sizes[0], sizes[1], role] += 1
    linears = tuple(
        LinearShape(path, in_features, out_features, count, role)
        for (path, out_features, in_features, role), count in found.items()
    )
    config = getattr(model, "config", None)
    return ModelShapes(
        name=name,
        hub_id=None,
        family=family or getattr(config, "model_type", ""),
        kind=kind,
        base_params=sum(p.numel() for p in model.parameters()),
        linears=linears,
        **facts,
    )


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
    config = {key: value for key, value in config.items() if "implementation" not in key}
    model_type = config.pop("model_type", None)
    architecture = (config.get("architectures") or [""])[0]
    if not model_type:
        raise CdkaError(f"config.json must name a model_type: none for {name!r}. Give a transformers model.")
    import torch
    import transformers
    from transformers import AutoModel, AutoModelForImageClassification

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
    kind = kind or kind_of({**built.to_dict(), "architectures": [architecture]})
    vision = getattr(built, "vision_config", None)
    if kind == "image-classification" and vision is not None:
        # Of a model with a tower each for pictures and texts (CLIP), what classifies pictures is the former alone.
        with torch.device("meta"), suppress(ValueError):
            model, built = AutoModelForImageClassification.from_config(built), vision
    shapes = shapes_of(model, name, family=family or model_type, kind=kind, details=details_of(built, model), **facts)
    return ModelShapes(**{**vars(shapes), "hub_id": hub_id})


def read(config: str, name: str) -> dict[str, Any]:
    """The shapes of the config.json at the path ``config``, as the catalogue keeps them. Raises CdkaError."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # the config is here; nothing else may be fetched
    return to_json(shapes_from_config(json.loads(Path(config).read_text(encoding="utf-8")), name))
