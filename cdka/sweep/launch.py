"""From a plan to queued runs: what it will cost here, how it is packed, and the one call that submits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from cdka.engines import local
from cdka.engines.check import checked_all
from cdka.engines.slots import Slot, cores, detect
from cdka.finetune.spec import RunSpec
from cdka.memory import detect_device
from cdka.runs.store import Store
from cdka.sweep.estimate import Estimate, estimate, timed
from cdka.sweep.memory import job_bytes
from cdka.sweep.packing import pack
from cdka.sweep.plan import Plan

MEMORY_SHARE = 0.8
"""How much of the free memory the packs of all slots together may take."""


@dataclass(frozen=True)
class Preview:
    """What a plan comes to on this machine: pack numbers by run, jobs, time, the largest job's memory, notes."""

    runs: int
    packs: tuple[int | None, ...]
    jobs: int
    estimate: Estimate
    memory_bytes: int | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "runs": self.runs, "jobs": self.jobs, "estimated_s": self.estimate.seconds,
            "estimated_from": self.estimate.basis, "memory_bytes": self.memory_bytes, "notes": list(self.notes),
        }  # fmt: skip


def preview(plan: Plan, store: Store, *, packs: bool = True) -> Preview:
    """What ``launch`` would do, without doing it."""
    slots = detect()
    places = [slot for slot in slots if slot.gpu is not None] or slots
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
        len(plan.specs), tuple(numbers), jobs, estimate(plan.specs, timed(store.runs()), slots=ways), memory,
        (*plan.notes, *notes),
    )  # fmt: skip


def _device_type(spec: RunSpec, slots: Sequence[Slot]) -> str:
    """Where a run will train: a GPU unless there is none or it asks for the CPU."""
    return "cuda" if spec.device != "cpu" and any(slot.gpu is not None for slot in slots) else "cpu"


def _fits(slots: Sequence[Slot]) -> Callable[[Sequence[RunSpec]], bool]:
    """Whether a pack's estimate is within its share of the memory where it will train: of its GPU's, or of the host's,
    which all CPU slots share. A pack of unknown size is let through."""
    cpus = sum(slot.gpu is None for slot in slots)
    free = {"cpu": psutil.virtual_memory().available / cpus if cpus else 0}
    if any(slot.gpu is not None for slot in slots):
        device = detect_device()
        free["cuda"] = device.free_bytes if device.kind == "cuda" else free["cpu"]

    def fits(specs: Sequence[RunSpec]) -> bool:
        where = _device_type(specs[0], slots)
        size = job_bytes(specs, where)
        return size is None or size <= MEMORY_SHARE * free[where]

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
