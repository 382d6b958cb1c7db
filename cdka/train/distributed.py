"""Several processes that train one run together, each with a part of every batch. Alone, all of this does nothing.

Every process keeps the same parameters: gradients are added up before each update, so the update is that of the whole
batch. The first process leads: what it decides holds for all, and it alone writes files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist

TOGETHER_BYTES = 256 * 2**20
"""Gradients up to this size travel as one tensor."""


def _apart() -> bool:
    return not (dist.is_available() and dist.is_initialized())


def size() -> int:
    """The number of processes that train together."""
    return 1 if _apart() else dist.get_world_size()


def is_main() -> bool:
    """True in the process that decides and writes."""
    return _apart() or dist.get_rank() == 0


def shard(rows: torch.Tensor) -> torch.Tensor:
    """This process's part of the rows of a batch or split."""
    return rows if _apart() else rows[dist.get_rank() :: dist.get_world_size()]


def all_reduce(values: Iterable[torch.Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in place."""
    if _apart():
        return
    values = list(values)
    if sum(value.numel() * value.element_size() for value in values) > TOGETHER_BYTES:
        for value in values:
            dist.all_reduce(value)
        return
    for dtype in {value.dtype for value in values}:
        some = [value for value in values if value.dtype == dtype]
        flat = torch.cat([value.reshape(-1) for value in some])
        dist.all_reduce(flat)
        for value, summed in zip(some, flat.split([value.numel() for value in some]), strict=True):
            value.copy_(summed.view_as(value))


def broadcast(value: Any) -> Any:
    """The value that the leading process has."""
    if _apart():
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def gather(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    if _apart():
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


def interleave(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """The whole whose ``share`` each part is."""
    whole: list[Any] = [None] * sum(map(len, parts))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
