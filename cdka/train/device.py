"""Device and precision of a run."""

from __future__ import annotations

import torch

from cdka.errors import CdkaError
from cdka.runs.spec import QUANTIZED

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


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of the frozen base: ``auto`` is bfloat16 on a GPU that computes in it, else float32.

    A quantized base computes in what ``auto`` would be.
    """
    if name != "auto" and name not in QUANTIZED:
        return _DTYPES[name]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: allocated on the GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
