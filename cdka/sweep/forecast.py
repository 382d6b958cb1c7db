"""The jobs that a set of runs makes on this machine, before they start: their number, time, memory, and advice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from cdka.cost.measurement import Load, measure, measured
from cdka.cost.memory import job_bytes, memory_basis
from cdka.cost.time import TimeEstimate, estimate_measured, estimate_time, fit_to_time, timed
from cdka.engine.local import dispatcher_pid
from cdka.engine.slots import Slot, detect, suits, threads_for
from cdka.errors import CdkaError
from cdka.machine import cores, detect_device
from cdka.runs.resolve import ResolvedRun
from cdka.runs.run import Run
from cdka.runs.spec import AUTO, RunSpec
from cdka.runs.states import KEPT
from cdka.runs.store import Store
from cdka.sweep.pack import pack

MEMORY_SHARE = 0.8
"""The share of the free memory that the packs of all slots together may take."""
STEEP_LR = 0.1
LONG_JUDGING_S = 30.0
MAX_CUT_SHARE = 0.05
"""More training examples than this share should not be cut or left out unnoticed."""


@dataclass(frozen=True)
class Advice:
    """A choice that will hurt, as a line; the settings that help, and in a few words what they do."""

    text: str
    changes: Mapping[str, Any]
    label: str


@dataclass(frozen=True)
class Forecast:
    """The jobs that a set of runs makes on this machine: pack numbers by run, time, the largest job's memory, notes.

    ``fits`` is True where that memory is within the largest device's, None where it is not known; ``memory_basis``
    names the tokens that it counts. The lines of ``advice`` are among the notes.
    """

    runs: int
    packs: tuple[int | None, ...]
    jobs: int
    time: TimeEstimate
    memory_bytes: int | None
    fits: bool | None
    notes: tuple[str, ...]
    advice: tuple[Advice, ...] = ()
    memory_basis: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "runs": self.runs,
            "jobs": self.jobs,
            "estimated_s": self.time.seconds,
            "estimated_from": self.time.basis,
            "memory_bytes": self.memory_bytes,
            "memory_from": self.memory_basis,
            "fits": self.fits,
            **self.time.to_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Jobs:
    """The jobs of a set of runs on this machine: pack numbers by run, the runs of each job, notes on what was split.

    ``at_once`` of them will be at work at a time.
    """

    packs: tuple[int | None, ...]
    members: tuple[tuple[ResolvedRun, ...], ...]
    notes: tuple[str, ...]
    at_once: int


def jobs_of(runs: Sequence[ResolvedRun], *, packs: bool = True) -> Jobs:
    """The jobs that ``launch_runs`` would start, in the order in which they start."""
    slots = detect()
    places = places_of(runs[0].spec, slots) or slots
    numbers: list[int | None] = [None] * len(runs)
    notes: list[str] = []
    if packs:
        numbers, notes = pack([run.spec for run in runs], slots=len(places), fits=_fits(runs, slots))
    members: dict[Any, list[ResolvedRun]] = {}
    for position, (run, number) in enumerate(zip(runs, numbers, strict=True)):
        members.setdefault(("alone", position) if number is None else number, []).append(run)
    at_once = max(1, min(len(members), len(places), cores()))
    return Jobs(tuple(numbers), tuple(map(tuple, members.values())), tuple(notes), at_once)


def forecast(runs: Sequence[ResolvedRun], store: Store, *, packs: bool = True) -> Forecast:
    """The jobs that ``launch_runs`` would start, without starting them."""
    slots = detect()
    jobs = jobs_of(runs, packs=packs)
    sizes = [job_bytes(job, device_type_of(job[0].spec, slots)) for job in jobs.members]
    memory = max((size for size in sizes if size is not None), default=None)
    basis = ""
    if memory is not None:
        largest = jobs.members[sizes.index(memory)]
        runs_of_it = f"{len(largest)} runs trained together, " if len(largest) > 1 else ""
        basis = runs_of_it + memory_basis(largest[0], device_type_of(largest[0].spec, slots))
    fits = None if memory is None else memory <= device_bytes_of(runs[0].spec, slots)
    time = _time(jobs, store)
    advice = tuple(_advice(runs[0].spec, jobs, store, time, memory, fits))
    notes = (*jobs.notes, *_steep(runs), *(one.text for one in advice))
    return Forecast(len(runs), jobs.packs, len(jobs.members), time, memory, fits, notes, advice, basis)


def _time(jobs: Jobs, store: Store) -> TimeEstimate:
    """From measurements where all runs have one, else from finished runs."""
    known = [
        [(run.spec, found) for run in job if (found := measured(run, store.home, load_of(run, jobs))) is not None]
        for job in jobs.members
    ]
    if [len(job) for job in known] == [len(job) for job in jobs.members]:
        return estimate_measured(known, slots=jobs.at_once, engine_ready=engine_ready(store))
    specs = [run.spec for job in jobs.members for run in job]
    return estimate_time(specs, timed(_comparable(specs, store)), slots=jobs.at_once)


MAX_COMPARABLE = 500
"""Finished runs of a model and task, the newest, from which its speed is taken."""


def _comparable(specs: Sequence[RunSpec], store: Store) -> list[Run]:
    """The finished runs that have the model and task of one of ``specs``."""
    pairs = dict.fromkeys((spec.model, spec.task) for spec in specs)
    return [
        run
        for model, task in pairs
        for run in store.runs(
            status=KEPT, settings={"model": model, "task": task}, newest_first=True, limit=MAX_COMPARABLE
        )
    ]


def engine_ready(store: Store) -> bool:
    """True while a dispatcher is at work in the home: its workers start from what is imported already."""
    return dispatcher_pid(store.home) is not None


def load_of(run: ResolvedRun, jobs: Jobs) -> Load:
    """The threads of a run's job, and the jobs beside it."""
    slots = detect()
    slot = (places_of(run.spec, slots) or slots)[0]
    threads = threads_for(slot, run.shapes.base_params, alone=jobs.at_once == 1)
    return Load(threads, jobs.at_once if slot.gpu is None else 1)


def _steep(runs: Sequence[ResolvedRun]) -> list[str]:
    """A remark on learning rates at which AdamW hardly ever learns: a slip of a decimal point, most of the time."""
    steep = sorted({run.spec.lr for run in runs if run.spec.lr > STEEP_LR})
    rates = ", ".join(f"{rate:g}" for rate in steep)
    remark = f"a learning rate of {rates} is far above the usual 0.00001 to 0.01: expect the loss to diverge"
    return [remark] if steep else []


def _advice(
    spec: RunSpec, jobs: Jobs, store: Store, time: TimeEstimate, memory: int | None, fits: bool | None
) -> Iterator[Advice]:
    """The choices of a set of runs that will hurt, with the settings that help."""
    judging = sum(time.phases.get(phase, 0.0) for phase in ("evaluate", "generate", "test"))
    if judging > time.phases.get("train", 0.0) and judging > LONG_JUDGING_S:
        yield Advice(
            f"judging takes {judging:.0f} s, longer than training ({time.phases['train']:.0f} s): set eval_examples, "
            "generate_examples and test_examples to auto or to smaller numbers",
            dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), AUTO),
            "Judge as many as pay",
        )
    if fits is False and memory is not None:
        yield Advice(
            f"the largest job needs about {memory / 1e9:.1f} GB, more than this machine has: lower batch_size"
            + (", max_length" if spec.max_length else "")
            + ", or set gradient_checkpointing",
            {"batch_size": spec.batch_size // 2} if spec.gradient_checkpointing else {"gradient_checkpointing": True},
            "Halve the batch" if spec.gradient_checkpointing else "Keep fewer activations",
        )
    found = measured(jobs.members[0][0], store.home, load_of(jobs.members[0][0], jobs))
    if found is not None and spec.max_length != AUTO and found.cut > MAX_CUT_SHARE * found.train_of:
        what = "left out" if spec.overlong == "drop" else "cut"
        yield Advice(
            f"{found.cut:,} of {found.train_of:,} training examples are longer than max_length={spec.max_length} "
            f"tokens and will be {what}: set max_length to auto",
            {"max_length": AUTO},
            "Let the data set the length",
        )


def measure_runs(
    runs: Sequence[ResolvedRun], store: Store, *, packs: bool = True
) -> Generator[dict[str, Any], None, None]:
    """Measure every speed among ``runs`` that is not known here yet; yields the progress. Raises CdkaError."""
    jobs = jobs_of(runs, packs=packs)
    for run in runs:
        load = load_of(run, jobs)
        if measured(run, store.home, load) is None:
            yield from measure(run, store.home, load)


def time_settings(
    runs: Sequence[ResolvedRun], store: Store, seconds: float, *, packs: bool = True, smaller_batches: bool = False
) -> dict[str, int]:
    """The settings with which all ``runs`` take about ``seconds`` together on this machine, the same for each of them.

    They are chosen by the speed of the first, which must be known (``measure_runs``). ``smaller_batches`` lets the
    batch size be among them, on a CPU. Raises CdkaError where the time is too short.
    """
    jobs = jobs_of(runs, packs=packs)
    measurement = measured(runs[0], store.home, load_of(runs[0], jobs))
    if measurement is None:
        raise CdkaError("the speed of this run is not known here yet. Measure it first.")
    return fit_to_time(
        runs[0].spec,
        measurement,
        seconds,
        jobs=[len(job) for job in jobs.members],
        slots=jobs.at_once,
        engine_ready=engine_ready(store),
        smaller_batches=smaller_batches and device_type_of(runs[0].spec, detect()) == "cpu",
    )


def places_of(spec: RunSpec, slots: Sequence[Slot]) -> list[Slot]:
    """The slots that a run may train on."""
    with_gpu = any(slot.gpu is not None for slot in slots)
    return [slot for slot in slots if suits(slot, spec.device, with_gpu)]


def device_type_of(spec: RunSpec, slots: Sequence[Slot]) -> str:
    """The kind of device a run will train on: cuda or cpu."""
    return "cuda" if any(slot.gpu is not None for slot in places_of(spec, slots)) else "cpu"


def device_bytes_of(spec: RunSpec, slots: Sequence[Slot]) -> int:
    """The whole memory of the largest device that a run may train on."""
    devices = [detect_device(slot.gpu) for slot in places_of(spec, slots) if slot.gpu is not None]
    gpus = [device.total_bytes for device in devices if device.kind == "cuda"]
    return max(gpus, default=psutil.virtual_memory().total)


def _fits(runs: Sequence[ResolvedRun], slots: Sequence[Slot]) -> Callable[[Sequence[int]], bool]:
    """A test of whether the runs at some positions fit together into the memory where they will train.

    That is the memory of the smallest GPU that may take them, or the host's, which all CPU slots share. A pack of
    unknown size is let through.
    """
    host = psutil.virtual_memory().available

    def free(spec: RunSpec) -> float:
        places = places_of(spec, slots)
        gpus = [detect_device(slot.gpu) for slot in places if slot.gpu is not None]
        return min((gpu.free_bytes for gpu in gpus if gpu.kind == "cuda"), default=host / max(1, len(places)))

    def fits(positions: Sequence[int]) -> bool:
        spec = runs[positions[0]].spec
        size = job_bytes([runs[i] for i in positions], device_type_of(spec, slots))
        return size is None or size <= MEMORY_SHARE * free(spec)

    return fits
