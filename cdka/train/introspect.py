"""Read the linear layers of a torch model (on any device, meta included) into plain shapes."""

from __future__ import annotations

import re
from collections import Counter

from torch import nn
from transformers.pytorch_utils import Conv1D

from cdka.models.shapes import LinearShape, ModelShapes

_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")
_ATTENTION = re.compile(
    r"attn|attention|(^|[._])([qkvo]_?proj|q_lin|k_lin|v_lin|query|key|value|qkv)($|[._])|SelfAttention", re.I
)
_MLP = re.compile(
    r"mlp|ffn|feed_forward|DenseReluDense|intermediate|(^|\.)fc\d|expert|dense_|\.output\.dense|lin[12]$", re.I
)
_HEAD_NAMES = {"lm_head", "classifier", "score", "qa_outputs", "pooler", "pre_classifier", "embed_out", "cls", "head"}


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
