"""The one way to start runs: resolve them, check them against this machine, pack them, queue them, start the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import psutil

from cdka.cost.measurement import measure, measured
from cdka.cost.memory import job_bytes
from cdka.cost.params import count_params
from cdka.cost.time import TimeEstimate, estimate_measured, estimate_time, fit_to_time, in_parallel, timed
from cdka.engine import local
from cdka.engine.slots import Slot, check_device, detect, suits
from cdka.errors import CdkaError
from cdka.machine import cores, detect_device
from cdka.runs.resolve import ResolvedRun, resolve_runs
from cdka.runs.run import Run
from cdka.runs.spec import QUANTIZED, RunSpec
from cdka.runs.states import KEPT
from cdka.runs.store import Store
from cdka.sweep.pack import pack
from cdka.sweep.plan import Plan

MEMORY_SHARE = 0.8
"""The share of the free memory that the packs of all slots together may take."""

LONG_JUDGING_S = 30.0
HOPELESS = 1.5
"""A run whose estimate is this many times the whole memory of its device is refused: it cannot be the estimate."""


@dataclass(frozen=True)
class Forecast:
    """The jobs that a set of runs makes on this machine: pack numbers by run, time, the largest job's memory, notes.

    ``fits`` is True where that memory is within the largest device's, None where it is not known.
    """

    runs: int
    packs: tuple[int | None, ...]
    jobs: int
    time: TimeEstimate
    memory_bytes: int | None
    fits: bool | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "runs": self.runs,
            "jobs": self.jobs,
            "estimated_s": self.time.seconds,
            "estimated_from": self.time.basis,
            "memory_bytes": self.memory_bytes,
            "fits": self.fits,
            **self.time.to_dict(),
            "notes": list(self.notes),
        }


def forecast(runs: Sequence[ResolvedRun], store: Store, *, packs: bool = True) -> Forecast:
    """The jobs that ``launch_runs`` would start, without starting them."""
    slots = detect()
    places = _places(runs[0].spec, slots) or slots
    numbers: list[int | None] = [None] * len(runs)
    notes: list[str] = []
    if packs:
        numbers, notes = pack([run.spec for run in runs], slots=len(places), fits=_fits(runs, slots))
    members = [[run for run, n in zip(runs, numbers, strict=True) if n == number] for number in {*numbers} - {None}]
    members += [[run] for run, number in zip(runs, numbers, strict=True) if number is None]
    sizes = [job_bytes(job, _device_type(job[0].spec, slots)) for job in members]
    memory = max((size for size in sizes if size is not None), default=None)
    fits = None if memory is None else memory <= _device_bytes(runs[0].spec, slots)
    time = _time(runs, store, slots=min(len(places), cores()))
    notes += _warnings(runs[0].spec, time, memory, fits)
    return Forecast(len(runs), tuple(numbers), len(members), time, memory, fits, tuple(notes))


def _time(runs: Sequence[ResolvedRun], store: Store, *, slots: int) -> TimeEstimate:
    """From measurements where all runs have one, else from finished runs."""
    specs = [run.spec for run in runs]
    measurements = [measured(run, store.home) for run in runs]
    known = [one for one in measurements if one is not None]
    if len(known) == len(runs):
        return estimate_measured(specs, known, slots=slots)
    return estimate_time(specs, timed(_comparable(specs, store)), slots=slots)


MAX_COMPARABLE = 500
"""Finished runs of a model and task, the newest, from which its speed is taken."""


def _comparable(specs: Sequence[RunSpec], store: Store) -> list[Run]:
    """The finished runs that have the model and task of one of ``specs``."""
    pairs = dict.fromkeys((spec.model, spec.task) for spec in specs)
    return [
        run
        for model, task in pairs
        for run in store.runs(status=KEPT, model=model, task=task, newest_first=True, limit=MAX_COMPARABLE)
    ]


def _warnings(spec: RunSpec, time: TimeEstimate, memory: int | None, fits: bool | None) -> list[str]:
    """One line for each choice that will hurt, with the setting that helps."""
    notes = []
    judging = sum(time.phases.get(phase, 0.0) for phase in ("evaluate", "generate", "test"))
    if judging > time.phases.get("train", 0.0) and judging > LONG_JUDGING_S:
        notes.append(
            f"judging takes {judging:.0f} s, longer than training ({time.phases['train']:.0f} s): set eval_examples, "
            "generate_examples and test_examples to auto or to smaller numbers"
        )
    if fits is False and memory is not None:
        notes.append(
            f"the largest job needs about {memory / 1e9:.1f} GB, more than this machine has: lower batch_size"
            + (", max_length" if spec.max_length else "")
            + ", or set gradient_checkpointing"
        )
    return notes


def measure_runs(runs: Iterable[ResolvedRun], store: Store) -> Iterator[dict[str, Any]]:
    """Measure every speed among ``runs`` that is not known here yet; yields the progress. Raises CdkaError."""
    for run in runs:
        if measured(run, store.home) is None:
            yield from measure(run, store.home)


def time_settings(run: ResolvedRun, store: Store, seconds: float, *, runs: int = 1) -> dict[str, int]:
    """The settings with which ``runs`` runs like this one take about ``seconds`` together on this machine.

    The speed must be known (``measure_runs``). Raises CdkaError where the time is too short.
    """
    measurement = measured(run, store.home)
    if measurement is None:
        raise CdkaError("the speed of this run is not known here yet. Measure it first.")
    slots = min(len(_places(run.spec, detect())) or 1, cores())
    return fit_to_time(run.spec, measurement, seconds / in_parallel(runs, runs, slots))


def launch(plan: Plan, store: Store, *, packs: bool = True, request_id: str | None = None) -> str:
    """The id of the new sweep, its runs queued and the engine at work.

    The same ``request_id`` launches once. Raises CdkaError before anything is stored for a run that cannot work here.
    """
    check_runs(plan.runs)
    numbers = forecast(plan.runs, store, packs=packs).packs
    sweep_id = store.create_sweep(plan.name, plan.document, plan.specs, request_id=request_id, packs=numbers)
    local.ensure_dispatcher(store)
    return sweep_id


def launch_runs(
    specs: Iterable[RunSpec],
    store: Store,
    *,
    sweep_id: str | None = None,
    packs: bool = True,
    request_id: str | None = None,
) -> list[str]:
    """The ids of new runs in the order of ``specs``, alone or in an existing sweep, queued and the engine at work.

    The same ``request_id`` launches once. Raises CdkaError before anything is stored for a run that cannot work here.
    """
    runs = resolve_runs(specs)
    if not runs:
        return []
    check_runs(runs)
    numbers = forecast(runs, store, packs=packs).packs
    run_ids = store.submit([run.spec for run in runs], sweep_id=sweep_id, request_id=request_id, packs=numbers)
    local.ensure_dispatcher(store)
    return run_ids


def repeat(store: Store, sweep_id: str, *, request_id: str | None = None) -> str:
    """The id of a new sweep with the runs of another one, queued and the engine at work.

    The same ``request_id`` launches once. Raises CdkaError where the sweep has no runs, or they cannot work here now.
    """
    sweep = store.sweep(sweep_id)
    runs = resolve_runs(run.spec for run in store.runs(sweep_id=sweep_id))
    if not runs:
        raise CdkaError(f"a sweep without runs cannot be repeated: {sweep.name!r} has none.")
    check_runs(runs)
    numbers = forecast(runs, store).packs
    name = sweep.name if sweep.name.endswith(" again") else f"{sweep.name} again"
    new = store.create_sweep(name, dict(sweep.plan), [run.spec for run in runs], request_id=request_id, packs=numbers)
    local.ensure_dispatcher(store)
    return new


def check_runs(runs: Iterable[ResolvedRun]) -> None:
    """Raises CdkaError for a run that cannot work on this machine: adapter size, device, precision."""
    checked: set[tuple[Any, ...]] = set()
    for run in runs:
        key = (run.spec.model, run.spec.method, run.spec.rank, run.spec.device, run.spec.dtype, run.layers)
        if key not in checked:
            checked.add(key)
            _check_size(run)
            check_device(run.spec.device)
            _check_precision(run.spec)
            _check_memory(run)


def _check_size(run: ResolvedRun) -> None:
    num_params, spec = count_params(run), run.spec
    if spec.method != "full" and num_params > run.shapes.base_params:
        what = "r" if spec.method == "cdka" else "the rank"
        raise CdkaError(
            f"an adapter must be smaller than its model: got {num_params:,} parameters for {spec.label} on "
            f"{spec.model!r}, which has {run.shapes.base_params:,}. Lower {what}, or use method full."
        )


def _check_precision(spec: RunSpec) -> None:
    if spec.dtype in QUANTIZED and find_spec("bitsandbytes") is None:
        raise CdkaError(
            f"a base in {spec.dtype} needs bitsandbytes, which is not installed. Run: pip install bitsandbytes; or use "
            "dtype auto."
        )


def _check_memory(run: ResolvedRun) -> None:
    """Raises CdkaError where the estimate is beyond all doubt above the memory of every device the run may use."""
    slots = detect()
    size, memory = job_bytes([run], _device_type(run.spec, slots)), _device_bytes(run.spec, slots)
    if size is not None and size > HOPELESS * memory:
        spec = run.spec
        raise CdkaError(
            f"a run must fit the memory: {spec.label} on {spec.model!r} needs about {size / 1e9:.0f} GB at batch size "
            f"{spec.batch_size}, and this machine has {memory / 1e9:.0f} GB. Take a smaller model or batch size"
            + ("." if run.task.kind.startswith("image") else " or max_length.")
        )


def _places(spec: RunSpec, slots: Sequence[Slot]) -> list[Slot]:
    """The slots that a run may train on."""
    with_gpu = any(slot.gpu is not None for slot in slots)
    return [slot for slot in slots if suits(slot, spec.device, with_gpu)]


def _device_type(spec: RunSpec, slots: Sequence[Slot]) -> str:
    """The kind of device a run will train on: cuda or cpu."""
    return "cuda" if any(slot.gpu is not None for slot in _places(spec, slots)) else "cpu"


def _device_bytes(spec: RunSpec, slots: Sequence[Slot]) -> int:
    """The whole memory of the largest device that a run may train on."""
    devices = [detect_device(slot.gpu) for slot in _places(spec, slots) if slot.gpu is not None]
    gpus = [device.total_bytes for device in devices if device.kind == "cuda"]
    return max(gpus, default=psutil.virtual_memory().total)


def _fits(runs: Sequence[ResolvedRun], slots: Sequence[Slot]) -> Callable[[Sequence[int]], bool]:
    """A test of whether the runs at some positions fit together into the memory where they will train.

    That is the memory of the smallest GPU that may take them, or the host's, which all CPU slots share. A pack of
    unknown size is let through.
    """
    host = psutil.virtual_memory().available

    def free(spec: RunSpec) -> float:
        places = _places(spec, slots)
        gpus = [detect_device(slot.gpu) for slot in places if slot.gpu is not None]
        return min((gpu.free_bytes for gpu in gpus if gpu.kind == "cuda"), default=host / max(1, len(places)))

    def fits(positions: Sequence[int]) -> bool:
        spec = runs[positions[0]].spec
        size = job_bytes([runs[i] for i in positions], _device_type(spec, slots))
        return size is None or size <= MEMORY_SHARE * free(spec)

    return fits
