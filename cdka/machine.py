"""This machine and what is installed on it: CPU cores, GPUs, free memory, versions of packages. Free of torch."""

from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

from cdka.errors import CdkaError

DETECTED_FOR_S = 20.0
"""Age up to which the free memory of a device is not asked again: nvidia-smi takes tens of milliseconds."""


@lru_cache(maxsize=1)
def gpus() -> tuple[str, ...]:
    """The visible CUDA devices, asked of the driver's own tool: torch is not imported, no context is made."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip().isdecimal())


def cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def multiplies_bfloat16() -> bool:
    """True where the CPU has units for bfloat16 matrices (AMX): several times faster there than in float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags


_TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Packages for each tracker that is not called as its package; one of several is enough."""


def check_tracker(name: str) -> None:
    """Raises CdkaError where the experiment tracker called ``name`` is not installed; an empty name is none."""
    packages = _TRACKER_PACKAGES.get(name, (name,))
    if name and not any(find_spec(package) for package in packages):
        raise CdkaError(
            f"a tracker must be installed: got report_to={name!r}, and there is no package {packages[0]}. Run: pip "
            f"install {packages[0]}"
        )


@dataclass(frozen=True)
class Device:
    """A place to train: its name and its memory in bytes."""

    name: str
    kind: str
    total_bytes: int
    free_bytes: int


def detect_device(gpu: str | None = None) -> Device:
    """An NVIDIA GPU by its index or id, where None the first one; without any, this machine's memory.

    Asked of nvidia-smi, and looked up again every few seconds.
    """
    return _detected(int(time.monotonic() / DETECTED_FOR_S), gpu)


@lru_cache(maxsize=64)
def _detected(_period: int, gpu: str | None) -> Device:
    program = shutil.which("nvidia-smi")
    if program:
        query = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
        query += [] if gpu is None else ["-i", gpu]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
            name, total, free = (part.strip() for part in answer.splitlines()[0].split(","))
            return Device(name, "cuda", int(total) << 20, int(free) << 20)
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            pass  # a driver that does not answer is no device
    memory = psutil.virtual_memory()
    return Device("this computer's memory", "cpu", memory.total, memory.available)


_PACKAGES = ("cdka-studio", "torch", "transformers", "peft", "numpy")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions by package name, ``python``, and ``commit`` where the code runs from a git checkout."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    root = Path(__file__).resolve().parents[1]
    if (root / ".git").exists():
        try:
            asked = subprocess.run(
                ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5
            )
        except (OSError, subprocess.TimeoutExpired):
            return found
        if asked.returncode == 0:
            found["commit"] = asked.stdout.strip()
    return found


def is_address(name: str) -> bool:
    """True for the address of a machine in digits: no name server can point it elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True if only this machine can reach ``host``."""
    host = host.strip("[]").lower()
    return ipaddress.ip_address(host).is_loopback if is_address(host) else host == "localhost"
