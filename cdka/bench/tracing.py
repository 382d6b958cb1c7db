"""Deterministic costs of a piece of torch code: the kernels it launches, the copies it makes, its peak memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = frozenset(
    {
        "view",
        "_unsafe_view",
        "_reshape_alias",
        "t",
        "transpose",
        "permute",
        "movedim",
        "expand",
        "slice",
        "select",
        "as_strided",
        "unsqueeze",
        "squeeze",
        "diagonal",
        "unbind",
        "split",
        "detach",
        "alias",
        "lift_fresh",
        "empty",
        "empty_like",
        "new_empty",
    }
)
"""Operations that launch no kernel."""
COPIES = frozenset(
    {"clone", "copy_", "_to_copy", "contiguous", "cat", "stack", "add", "mul", "sub", "index", "index_select"}
)
"""Operations that write a new tensor element by element; adding in place and matrix products are not among them."""


class Trace(TorchDispatchMode):
    """Within it, records every kernel, (name, elements of its largest output), and the shapes of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[str, int]] = []
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            self.shapes.update(tuple(t.shape) for t in _tensors(result))
            self.kernels.append((name, max((t.numel() for t in _tensors(result)), default=0)))
        return result

    def names(self) -> list[str]:
        """The kernels' names in order."""
        return [name for name, _ in self.kernels]

    def copies(self, least: int) -> list[tuple[str, int]]:
        """The copies of at least this many elements."""
        return [(name, size) for name, size in self.kernels if name in COPIES and size >= least]


class _Memory(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in known and key not in self.live:
                self.live[key] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, key, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes that tensors made during ``run()`` occupied at one time; what existed before is not counted.

    Counted from the operations dispatched, so the same on every device; kernels' own scratch space is not seen.
    """
    with _Memory() as memory:
        run()
    return memory.peak


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []


def torch_versions() -> dict[str, str]:
    """The versions a measurement depends on."""
    import peft

    return {"torch": torch.__version__, "peft": peft.__version__}
