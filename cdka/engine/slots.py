"""Slots in which runs may train at once (one per GPU, as many on the CPU as it has room for), and the job in one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cdka.cost.memory import LARGE_PARAMS
from cdka.errors import CdkaError
from cdka.machine import cores, gpus
from cdka.runs.run import run_directory
from cdka.runs.spec import RunSpec

MAX_CPU_SLOTS = 4
"""More runs than this side by side on a CPU mostly fight for its memory bandwidth."""


@dataclass(frozen=True)
class Slot:
    """A place for one job. ``gpu`` is the index that the driver gives the device; None means the CPU."""

    name: str
    gpu: str | None
    threads: int


@dataclass(frozen=True)
class JobSpec:
    """The job of one worker: a home, runs with their attempts, a slot. Plain data that travels as JSON.

    ``alone`` is True where no other job was at work or waiting when it was started.
    """

    home: str
    runs: tuple[tuple[str, int], ...]
    slot: Slot
    alone: bool = False

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        return json.dumps({"home": self.home, "runs": self.runs, "slot": vars(self.slot), "alone": self.alone})

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """The JobSpec that ``to_json`` wrote."""
        data = json.loads(text)
        runs = tuple((run_id, attempt) for run_id, attempt in data["runs"])
        return cls(data["home"], runs, Slot(**data["slot"]), data.get("alone", False))

    def log_paths(self) -> list[Path]:
        """The log of each run's attempt, in the run's folder; all are one file."""
        return [run_directory(Path(self.home), run_id) / f"attempt-{attempt}.log" for run_id, attempt in self.runs]

    @property
    def heartbeat_path(self) -> Path:
        """The file that the worker touches every ``HEARTBEAT_S`` while it lives; absent before and after."""
        return self.log_paths()[0].with_suffix(".alive")

    @property
    def unrecorded_path(self) -> Path:
        """The heartbeat's file under another name: its worker gave up because the store could not be written."""
        return self.heartbeat_path.with_suffix(".unrecorded")

    def open_log(self) -> int:
        """A file descriptor for what the job prints: one file, linked into the folder of each run (created)."""
        first, *others = self.log_paths()
        first.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for other in others:
            other.parent.mkdir(parents=True, exist_ok=True)
            if not other.exists():
                os.link(first, other)
        return descriptor


def detect() -> list[Slot]:
    """The slots of this machine. ``CDKA_SLOTS`` sets the number of CPU slots; CPU threads are shared among them.

    Where there is a GPU, CPU slots serve only the runs that ask for the CPU.
    """
    asked = os.environ.get("CDKA_SLOTS", "")
    if asked and (not asked.isdecimal() or not 1 <= int(asked) <= 256):
        raise CdkaError(f"CDKA_SLOTS must be a number from 1 to 256: got {asked!r}. Unset it for the default.")
    number = int(asked) if asked else min(cores(), MAX_CPU_SLOTS)
    threads = max(1, cores() // number)
    found = [Slot(f"cuda:{i}", gpu, max(1, cores() // len(gpus()))) for i, gpu in enumerate(gpus())]
    return found + [Slot(f"cpu:{i}", None, threads) for i in range(number)]


def threads_for(slot: Slot, base_params: int, *, alone: bool) -> int:
    """CPU threads of a job on the slot: all cores for a large model that has the CPU to itself, else the slot's share.

    Small models gain nothing from more threads, and keep to their share so that their sums are always added alike. A
    large one tries both at its start (``train.judging.settle_threads``).
    """
    return cores() if alone and slot.gpu is None and base_params >= LARGE_PARAMS else slot.threads


def suits(slot: Slot, device: str, with_gpu: bool) -> bool:
    """True if a run that asks for ``device`` may use the slot, on a machine with or without a GPU."""
    if device == "cpu" or (device == "auto" and not with_gpu):
        return slot.gpu is None
    if device in ("auto", "cuda"):
        return slot.gpu is not None
    return slot.name == device


def check_device(device: str) -> None:
    """Raises CdkaError unless some slot of this machine suits ``device``."""
    slots = detect()
    if not any(suits(slot, device, bool(gpus())) for slot in slots):
        known = ["auto", "cpu", *(slot.name for slot in slots if slot.gpu is not None)]
        raise CdkaError(f"device must be one that this machine has: got {device!r}. Known here: {', '.join(known)}.")


def in_process(spec: RunSpec, slot: Slot) -> RunSpec:
    """The spec as the worker sees it: with one visible GPU, whichever it is, that GPU is ``cuda:0``."""
    return spec if slot.gpu is None else spec.with_(device="cuda:0")


def environment(slot: Slot) -> dict[str, str]:
    """Environment variables that a worker on this slot needs before it imports torch or touches CUDA."""
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": slot.gpu if slot.gpu is not None else "",
        "CDKA_GPUS": ",".join(gpus()),
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "OMP_NUM_THREADS": str(slot.threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
