"""CDKA as a PEFT tuner. Importing this package makes stock PEFT know the method; importing it again changes nothing."""

from __future__ import annotations

from cdka.adapter.config import CdkaConfig, register
from cdka.adapter.convolution import ConvNd, Embedding
from cdka.adapter.gradient import initialise_from_gradient, weight_gradients
from cdka.adapter.layer import CdkaLayer
from cdka.adapter.linear import Linear
from cdka.adapter.loraplus import loraplus_groups
from cdka.adapter.model import CdkaModel
from cdka.adapter.ops import delta_weight, kron_linear
from cdka.adapter.pack import adapter_parameters, cached_factors, packed
from cdka.adapter_files import LoraExport, export_lora

register(CdkaConfig, CdkaModel)

__all__ = [
    "CdkaConfig",
    "CdkaLayer",
    "CdkaModel",
    "ConvNd",
    "Embedding",
    "Linear",
    "LoraExport",
    "adapter_parameters",
    "cached_factors",
    "delta_weight",
    "export_lora",
    "initialise_from_gradient",
    "kron_linear",
    "loraplus_groups",
    "packed",
    "weight_gradients",
]
