"""``AdapterFile``: an adapter of any kind in one shape, module by module as sums of Kronecker products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.adapter_files.names import dotted, joins_by_underscore
from cdka.adapter_files.tensors import Tensor
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.theory.factors import Factors

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class AdaptedModule:
    """One adapted layer: its path, its factors, the precision of the file, and what kind of layer it is.

    ``kernel`` is the kernel size of a convolution, whose weight is taken as (out, in * k * k); () for a linear layer.
    """

    name: str
    factors: Factors
    dtype: str = "F32"
    kernel: tuple[int, ...] = ()
    embedding: bool = False

    @property
    def components(self) -> Components:
        """(r1, r2, r)."""
        return self.factors.components


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """An adapter as read: what it is, its modules in the model's order, and what else the file holds.

    ``kind`` is who writes it and the method, such as ``peft-lora``, ``kohya-lokr`` or ``storyaura-cdka``; ``method`` is
    ``cdka``, ``lora``, ``lokr`` or ``loha``. ``extra`` are the tensors beside the adapter: trained heads and biases.
    """

    kind: str
    method: str
    modules: tuple[AdaptedModule, ...]
    prefix: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    path: Path | None = None
    scaling_rule: str = "none"
    """Rule by which alpha becomes the scaling where it is written as CDKA; each module's scaling is in its factors."""

    @property
    def num_params(self) -> int:
        """Numbers in all factors, extras not counted."""
        return sum(module.factors.num_params for module in self.modules)

    @property
    def rank(self) -> int:
        """The largest rank that the exact LoRA needs on any module."""
        return max(module.factors.lora_rank for module in self.modules)

    @property
    def names_are_joined(self) -> bool:
        """True where module names are joined by underscores, so that the path of the layer is not known."""
        return joins_by_underscore(self.prefix) and any("_" in module.name for module in self.modules)

    def find(self, name: str) -> AdaptedModule | None:
        """The module of this name; None where it is not adapted."""
        return next((module for module in self.modules if module.name == name), None)

    def with_paths(self, weights: Mapping[str, tuple[int, ...]]) -> AdapterFile:
        """The same adapter with the paths of the model's layers, checked against the shapes of their weights.

        Raises CdkaError for a module that the model has not, or whose size differs, as padded ones do.
        """
        flat = [m.name for m in self.modules] if joins_by_underscore(self.prefix) else []
        paths = dotted(flat, weights) if flat else {m.name: m.name for m in self.modules}
        modules = []
        for module in self.modules:
            shape = weights.get(paths[module.name])
            if shape is not None and math.prod(shape) != math.prod(module.factors.shape):
                raise CdkaError(
                    f"an adapter has the sizes of its layers: {module.name!r} is {module.factors.shape} (out, in), the "
                    f"model's weight is {shape}. Padded sizes and other models' adapters are refused."
                )
            kernel = shape[2:] if shape is not None else module.kernel
            modules.append(replace(module, name=paths[module.name], kernel=tuple(kernel)))
        return replace(self, modules=tuple(modules), prefix="")

    def frame(self) -> pd.DataFrame:
        """One row per module: name, r1, r2, r, out, in, num_params, lora_rank, scaling."""
        import pandas as pd

        return pd.DataFrame([describe_module(module) for module in self.modules])


def describe_module(module: AdaptedModule) -> dict[str, Any]:
    """A module as a row of plain values."""
    (out_features, in_features), c = module.factors.shape, module.components
    row = {"name": module.name, "r1": c.r1, "r2": c.r2, "r": c.r, "out_features": out_features}
    row |= {"in_features": in_features, "num_params": module.factors.num_params}
    return row | {"lora_rank": module.factors.lora_rank, "scaling": module.factors.scaling}
