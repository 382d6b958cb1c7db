"""Several processes that train one run together, each with a part of every batch. Alone, all of this does nothing.

Every process keeps the same parameters: gradients are added up before each update, so the update is that of the whole
batch. The first process leads: what it decides holds for all, and it alone writes files.
The processes are of this machine, one per GPU, and meet through accelerate: ``train`` calls ``lead`` where a run sets
``num_processes``, and the other processes call ``cdka.train.loop.follow``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cdka.childproc import ChildProcess
from cdka.errors import CdkaError
from cdka.runs.events import Event
from cdka.runs.resolve import ResolvedRun
from cdka.runs.spec import RunSpec

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


Train = Callable[..., Iterator[tuple[int, Event]]]
END_SEEN_S = 5.0
ALL_GPUS = "CDKA_GPUS"
"""The GPUs of the machine, where the engine has shown this process only one of them."""


def places(spec: RunSpec) -> list[str | None]:
    """The GPU of each process, None for all of them on a CPU. Raises CdkaError where there are too few."""
    if spec.device == "cpu" or not torch.cuda.is_available():
        return [None] * spec.num_processes
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    own = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    known = [gpu for gpu in os.environ.get(ALL_GPUS, "").split(",") if gpu] or own
    found = [own[0], *(gpu for gpu in known if gpu != own[0])]
    if len(found) < spec.num_processes:
        raise CdkaError(
            f"num_processes takes one GPU each: got {spec.num_processes}, and this machine shows {len(found)}. Use "
            f"num_processes={len(found)}."
        )
    return list(found[: spec.num_processes])


def _environment(rank: int, size: int, port: int, gpu: str | None) -> dict[str, str]:
    shared = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_WORLD_SIZE": str(size),
    }
    if gpu is None:
        return {**shared, "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    return {**shared, "LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": gpu}  # each sees one GPU, which is its cuda:0


@contextmanager
def process_group(environment: Mapping[str, str]) -> Iterator[None]:
    """Join the other processes, and leave them at the end."""
    from accelerate import PartialState

    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        PartialState(cpu=environment.get("ACCELERATE_USE_CPU") == "true")
        yield
    finally:
        PartialState._reset_state()
        if dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def lead(
    train: Train,
    runs: Sequence[ResolvedRun],
    directories: Sequence[Path],
    control: Callable[[int], str | None] | None,
    shared: Path | None = None,
) -> Iterator[tuple[int, Event]]:
    """The events of a run trained in ``num_processes`` processes, of which this is the first.

    Raises CdkaError, in one line, for a pack, and where another process fails.
    """
    if len(runs) > 1:
        raise CdkaError(f"several processes train one run at a time: got a pack of {len(runs)}. Run them separately.")
    (run,), (directory,) = runs, directories
    spec = run.spec
    found = places(spec)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environments = [_environment(rank, len(found), port, gpu) for rank, gpu in enumerate(found)]
    others: list[ChildProcess] = []
    try:
        request = {"directory": str(directory), "spec": spec.to_dict()}
        for environment in environments[1:]:
            failure = f"process {len(others) + 2} of {len(found)} failed"
            child = ChildProcess("cdka.train.loop:follow", request, failure=failure, environment=environment, output=2)
            others.append(child)
        with process_group(environments[0]):
            yield from train([run], [directory], control, shared)
    except RuntimeError as error:
        ended = [] if isinstance(error, torch.cuda.OutOfMemoryError) else _ended(others)
        if not ended:
            raise
        raise CdkaError(
            f"process {ended[0] + 1} of {len(found)} ended with code {others[ended[0] - 1].poll()}; the log has "
            "why. Retry, or use num_processes=1."
        ) from error
    finally:
        for process in others:
            process.close()


def _ended(others: Sequence[ChildProcess]) -> list[int]:
    """The numbers, from 1, of the processes that ended by an error.

    A dying process closes its connections before its end can be seen: it gets ``END_SEEN_S`` for that.
    """
    deadline = time.monotonic() + END_SEEN_S
    while True:
        ended = [number for number, process in enumerate(others, start=1) if process.poll() not in (None, 0)]
        if ended or time.monotonic() > deadline:
            return ended
        time.sleep(0.05)
