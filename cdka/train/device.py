"""Device and precision of a run."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch

from cdka.cost.memory import auto_is_half
from cdka.errors import CdkaError
from cdka.runs.spec import QUANTIZED

_M_MMAP_THRESHOLD, _M_ARENA_MAX, _LARGE_BLOCK_BYTES = -3, -8, 2**20
_OMP_PAUSE_SOFT = 1
_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first GPU where there is one, else the CPU. Raises CdkaError for a device that is not here."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CdkaError(f"device must be auto, cpu or cuda:N: got {name!r}.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CdkaError(
            f"device {name!r} is not on this machine, which has {torch.cuda.device_count()} CUDA devices. "
            "Use --device auto."
        )
    if device.type not in ("cuda", "cpu"):
        raise CdkaError(f"device must be auto, cpu or cuda:N: got {name!r}.")
    return device


def resolve_dtype(name: str, device: torch.device, base_params: int = 0) -> torch.dtype:
    """The precision of the frozen base: ``auto`` is bfloat16 where that is computed fast, else float32.

    That is on a GPU that computes in it, and for a large model on a CPU with matrix units for it (``auto_is_half``). A
    quantized base computes in what ``auto`` would be.
    """
    if name != "auto" and name not in QUANTIZED:
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and auto_is_half("cpu", base_params) else torch.float32


def return_freed_memory() -> None:
    """Let the system have large tensors back as soon as they are freed, where the C library is glibc.

    It keeps blocks of up to 32 MB for itself otherwise: a language model's activations of many lengths then take twice
    their peak. Freed and taken again they cost a few page faults, which a small model would notice.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)  # else each thread that generates text has a heap of its own
        libc.malloc_trim(0)


def end_idle_threads() -> None:
    """End the OpenMP threads that wait for this thread's next operation; they start again with it.

    With more of them than cores OpenMP puts each to sleep at every small operation: where this thread lets another one
    compute, that takes twice as long.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).omp_pause_resource_all(_OMP_PAUSE_SOFT)


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: allocated on the GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
