"""Layers that can be adapted, and their weights as matrices (out, in)."""

from __future__ import annotations

import math

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.quantization_utils import resolve_quantization_backend
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def features(layer: nn.Module) -> tuple[int, int] | None:
    """(out_features, in_features) of a layer that can be adapted, None for any other module.

    A convolution counts the inputs of one output: channels of its group times the kernel, as LyCORIS flattens it. An
    embedding is the map from a one-hot token to its vector.
    """
    if isinstance(layer, BaseTunerLayer):
        layer = layer.get_base_layer()
    if isinstance(layer, Conv1D):
        return layer.nf, layer.nx
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if isinstance(layer, CONVOLUTIONS):
        return layer.out_channels, layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim, layer.num_embeddings
    if resolve_quantization_backend(layer) is not None:
        names = ("out_features", "in_features") if hasattr(layer, "in_features") else ("outfeatures", "infeatures")
        return tuple(getattr(layer, name) for name in names)
    return None


def as_weight(matrix: Tensor, layer: nn.Module) -> Tensor:
    """A matrix (out, in) in the layout of the layer's weight."""
    if isinstance(layer, Conv1D | nn.Embedding):
        return matrix.T
    if isinstance(layer, CONVOLUTIONS):
        return matrix.view(layer.out_channels, -1, *layer.kernel_size)
    return matrix


def as_matrix(weight: Tensor, layer: nn.Module) -> Tensor:
    """A tensor in the layout of the layer's weight as a matrix (out, in)."""
    if isinstance(layer, Conv1D | nn.Embedding):
        return weight.T
    return weight.flatten(1) if isinstance(layer, CONVOLUTIONS) else weight
