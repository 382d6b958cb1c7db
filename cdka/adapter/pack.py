"""Sharing one batch between adapters: PEFT's ``adapter_names``, and packs that train together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn

from cdka.adapter.layer import CdkaLayer
from cdka.adapter.mixing import BASE, Assignment
from cdka.errors import CdkaError, unknown


def adapter_parameters(model: nn.Module, adapter_name: str) -> list[nn.Parameter]:
    """The parameters that belong to one adapter: its factors, and its copies of the modules_to_save."""
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, CdkaLayer) and adapter_name in module.cdka_A:
            own = [module.cdka_A[adapter_name], module.cdka_B[adapter_name]]
        elif isinstance(module, AuxiliaryTrainingWrapper):
            own = [p for name, p in module.named_parameters() if f".{adapter_name}." in f".{name}."]
        else:
            continue
        found.update((id(p), p) for p in own)
    return list(found.values())


@contextmanager
def packed(model: nn.Module, adapter_names: Sequence[str]) -> Iterator[None]:
    """Within it, every batch is one equal contiguous slice per adapter, in the order of ``adapter_names``.

    The base model runs once over the whole batch; each slice goes through its own adapter and, adapter by adapter,
    outputs and gradients are those of separate runs, because no term of the loss mixes slices. All the named
    adapters are trainable inside; what required a gradient before is restored at the end. Run forward *and*
    backward inside: gradient checkpointing runs the layers again during the backward pass.

    Adapters of equal components and scaling that stand side by side share their matrix products, so sort the names
    by components. ``"__base__"`` names a slice without an adapter. Raises CdkaError for unknown or repeated names.
    """
    names = [str(name) for name in adapter_names]
    layers = [m for m in model.modules() if isinstance(m, CdkaLayer)]
    known = sorted({name for layer in layers for name in layer.cdka_A})
    for name in names:
        if name != BASE and name not in known:
            raise unknown("adapter", name, known)
    if len(set(names)) != len(names) or not names:
        raise CdkaError(f"a pack needs at least one adapter, each named once: got {', '.join(names) or 'none'}.")
    wrappers = [m for m in model.modules() if isinstance(m, AuxiliaryTrainingWrapper)]
    parameters = [p for name in known for p in adapter_parameters(model, name)]
    before = [p.requires_grad for p in parameters]
    wanted = {id(p) for name in names for p in adapter_parameters(model, name)}
    try:
        for p in parameters:
            p.requires_grad_(id(p) in wanted)
        with assigned(layers, Assignment.pack(names)), _sliced(wrappers, names):
            yield
    finally:
        for p, flag in zip(parameters, before, strict=True):
            p.requires_grad_(flag)


class PackRouter:
    """``packed`` for a training loop: the model is searched once, and ``route`` only names the adapter in turn.

    All adapters must already be marked as trainable, and names are not checked.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, CdkaLayer)]
        self._wrappers = [m for m in model.modules() if isinstance(m, AuxiliaryTrainingWrapper)]

    @contextmanager
    def route(self, names: Sequence[str]) -> Iterator[None]:
        """Within it, every batch is one equal contiguous slice per adapter, in the order of ``names``."""
        with assigned(self._layers, Assignment.pack(names)), _sliced(self._wrappers, names):
            yield


@contextmanager
def cached_factors(model: nn.Module) -> Iterator[None]:
    """Within it, the small low-precision and expanded copies of the factors are made once and used again.

    For generation, evaluation, and the micro-batches of one optimiser step. An update through the parameters
    themselves, as PyTorch's optimisers make it, is noticed and the copies are made anew; a write through ``.data``
    or by a custom kernel is not, so leave the context before one.
    """
    layers = [m for m in model.modules() if isinstance(m, CdkaLayer)]
    before = [layer.cache for layer in layers]
    try:
        for layer in layers:
            layer.cache = {}
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.cache = old


@contextmanager
def assigned(layers: Sequence[CdkaLayer], assignment: Assignment) -> Iterator[None]:
    """Within it, the layers divide their batches by the assignment."""
    before = [layer.assignment for layer in layers]
    try:
        for layer in layers:
            layer.assignment = assignment
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.assignment = old


@contextmanager
def _sliced(wrappers: Sequence[AuxiliaryTrainingWrapper], names: Sequence[str]) -> Iterator[None]:
    """Within it, PEFT's wrappers of fully trained modules give each slice of a batch the copy of its adapter."""
    whole = [w for w in wrappers if isinstance(w, ModulesToSaveWrapper)]
    before = [w.__dict__.get("forward") for w in whole]
    try:
        for wrapper in whole:
            wrapper.forward = partial(_forward_slices, wrapper, names)
        with name_samples([w for w in wrappers if w not in whole], names):
            yield
    finally:
        for wrapper, outer in zip(whole, before, strict=True):
            if outer is None:
                del wrapper.forward
            else:
                wrapper.forward = outer


def _forward_slices(wrapper: ModulesToSaveWrapper, names: Sequence[str], *args: Any, **kwargs: Any) -> Tensor:
    if len(args) != 1 or kwargs or not isinstance(args[0], Tensor) or len(args[0]) % len(names):
        kind = type(wrapper.original_module).__name__
        raise CdkaError(
            f"in a pack, a module of modules_to_save takes one batch of equal slices and nothing else: {kind} got "
            "something different. Train the adapters one by one, or leave the module out."
        )
    trained = dict(wrapper.modules_to_save.items())
    parts = zip(names, args[0].chunk(len(names)), strict=True)
    return torch.cat([trained.get(name, wrapper.original_module)(part) for name, part in parts])


@contextmanager
def name_samples(wrappers: Sequence[AuxiliaryTrainingWrapper], names: Sequence[str]) -> Iterator[None]:
    """Tells PEFT's wrappers of fully trained modules which slice of a batch belongs to which adapter."""

    def add_names(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        each = len(args[0]) // len(names)
        kwargs["adapter_names"] = [name for name in names for _ in range(each)]
        return args, kwargs

    handles = [w.register_forward_pre_hook(add_names, with_kwargs=True) for w in wrappers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
