"""From a plan to queued runs: what it will cost here, how it is packed, and the one call that submits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from cdka.cost.job_memory import job_bytes
from cdka.cost.memory import detect_device
from cdka.cost.time import Estimate, estimate, timed
from cdka.engine import local
from cdka.engine.slots import Slot, cores, detect, suits
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.sweep.check import checked_all
from cdka.sweep.pack import pack
from cdka.sweep.plan import Plan

MEMORY_SHARE = 0.8
"""Share of the free memory that the packs of all slots together may take."""


@dataclass(frozen=True)
class Preview:
    """A plan on this machine: pack numbers by run, jobs, time, the largest job's memory, notes."""

    runs: int
    packs: tuple[int | None, ...]
    jobs: int
    estimate: Estimate
    memory_bytes: int | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "runs": self.runs,
            "jobs": self.jobs,
            "estimated_s": self.estimate.seconds,
            "estimated_from": self.estimate.basis,
            "memory_bytes": self.memory_bytes,
            "notes": list(self.notes),
        }


def preview(plan: Plan, store: Store, *, packs: bool = True) -> Preview:
    """The jobs that ``launch`` would queue, and their cost; queues nothing."""
    slots = detect()
    places = _places(plan.specs[0], slots) or slots
    numbers: list[int | None] = [None] * len(plan.specs)
    notes: list[str] = []
    if packs:
        numbers, notes = pack(plan.specs, slots=len(places), fits=_fits(slots))
    jobs = len({n for n in numbers if n is not None}) + sum(n is None for n in numbers)
    members = [[s for s, n in zip(plan.specs, numbers, strict=True) if n == number] for number in {*numbers} - {None}]
    members += [[spec] for spec, number in zip(plan.specs, numbers, strict=True) if number is None]
    sizes = [job_bytes(specs, _device_type(specs[0], slots)) for specs in members]
    memory = max((size for size in sizes if size is not None), default=None)
    ways = min(len(places), cores())
    return Preview(
        len(plan.specs),
        tuple(numbers),
        jobs,
        estimate(plan.specs, timed(store.runs()), slots=ways),
        memory,
        (*plan.notes, *notes),
    )


def _places(spec: RunSpec, slots: Sequence[Slot]) -> list[Slot]:
    """The slots that a run may train on."""
    with_gpu = any(slot.gpu is not None for slot in slots)
    return [slot for slot in slots if suits(slot, spec.device, with_gpu)]


def _device_type(spec: RunSpec, slots: Sequence[Slot]) -> str:
    """The kind of device a run will train on: cuda or cpu."""
    return "cuda" if any(slot.gpu is not None for slot in _places(spec, slots)) else "cpu"


def _fits(slots: Sequence[Slot]) -> Callable[[Sequence[RunSpec]], bool]:
    """True where a pack's estimate is within its share of the memory of its device.

    That is the memory of the smallest GPU that may take it, or the host's, which all CPU slots share. A pack of unknown
    size is let through.
    """
    host = psutil.virtual_memory().available

    def free(spec: RunSpec) -> float:
        places = _places(spec, slots)
        gpus = [detect_device(slot.gpu) for slot in places if slot.gpu is not None]
        return min((gpu.free_bytes for gpu in gpus if gpu.kind == "cuda"), default=host / max(1, len(places)))

    def fits(specs: Sequence[RunSpec]) -> bool:
        size = job_bytes(specs, _device_type(specs[0], slots))
        return size is None or size <= MEMORY_SHARE * free(specs[0])

    return fits


def launch(plan: Plan, store: Store, *, packs: bool = True, request_id: str | None = None) -> str:
    """The id of the new sweep, its runs queued and the engine at work.

    The same ``request_id`` launches once. Raises CdkaError before anything is stored for a spec that cannot run here.
    """
    specs: Sequence[RunSpec] = checked_all(plan.specs)
    numbers = preview(plan, store, packs=packs).packs
    sweep_id = store.create_sweep(plan.name, plan.document, specs, request_id=request_id, packs=numbers)
    local.ensure_dispatcher(store)
    return sweep_id
