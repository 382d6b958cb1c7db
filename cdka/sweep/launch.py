"""The one way to start runs: resolve them, check them against this machine, pack them, queue them, start the engine."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cdka.cost.adapter import count_params
from cdka.cost.memory import job_bytes
from cdka.engine import local
from cdka.engine.clusters import check_cluster
from cdka.engine.slots import check_device, detect
from cdka.errors import CdkaError
from cdka.machine import check_tracker
from cdka.paths import home_dir
from cdka.runs.resolve import ResolvedRun, resolve_runs
from cdka.runs.spec import LOCAL, QUANTIZED, RunSpec
from cdka.runs.store import Store
from cdka.sweep.forecast import device_bytes_of, device_type_of, jobs_of
from cdka.sweep.plan import Plan
from cdka.tasks.catalogue import TASKS
from cdka.tasks.files.text import read_passages

HOPELESS = 1.5
"""A run whose estimate is this many times the whole memory of its device is refused: it cannot be the estimate."""


def launch(plan: Plan, store: Store, *, packs: bool = True, request_id: str | None = None) -> str:
    """The id of the new sweep, its runs queued and the engine at work.

    The same ``request_id`` launches once. Raises CdkaError before anything is stored for a run that cannot work here.
    """
    check_runs(plan.runs, store.home)
    numbers = jobs_of(plan.runs, packs=packs).packs
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
    check_runs(runs, store.home)
    numbers = jobs_of(runs, packs=packs).packs
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
    check_runs(runs, store.home)
    numbers = jobs_of(runs).packs
    name = sweep.name if sweep.name.endswith(" again") else f"{sweep.name} again"
    new = store.create_sweep(name, dict(sweep.plan), [run.spec for run in runs], request_id=request_id, packs=numbers)
    local.ensure_dispatcher(store)
    return new


def check_runs(runs: Iterable[ResolvedRun], home: Path | None = None, *, reach: bool = True) -> None:
    """Raises CdkaError for a run that cannot work on its engine: this machine, or a cluster.

    Checked are the adapter's size, device, precision, memory, the tracker, and what is to be retained; of a cluster,
    that it can be joined (unless ``reach`` is False), while device, memory and packages are those of its nodes.
    """
    checked: set[tuple[Any, ...]] = set()
    for run in runs:
        spec = run.spec
        if spec.engine != LOCAL:
            if reach and (spec.engine,) not in checked:
                check_cluster(home or home_dir(), spec.engine)
                checked.add((spec.engine,))
            _check_on_cluster(run, checked)
            continue
        facts = (spec.model, spec.method, spec.rank, spec.device, spec.dtype, spec.retain, spec.report_to)
        key = (*facts, run.layers)
        if key not in checked:
            checked.add(key)
            _check_size(run)
            check_device(spec.device)
            _check_precision(spec)
            _check_memory(run)
            check_tracker(spec.report_to)
            _check_retained(run)


def _check_on_cluster(run: ResolvedRun, checked: set[tuple[Any, ...]]) -> None:
    spec = run.spec
    if spec.device.startswith("cuda:"):
        raise CdkaError(
            f"a cluster gives a run whichever GPU is free: got device={spec.device!r}. Use auto, cuda or cpu."
        )
    key = (spec.model, spec.method, spec.rank, spec.retain, run.layers)
    if key not in checked:
        checked.add(key)
        _check_size(run)
        _check_retained(run)


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


def _check_retained(run: ResolvedRun) -> None:
    """Raises CdkaError for a task to be retained that the model does not suit, and for a text that cannot be read."""
    retain, kind = run.spec.retain, run.task.kind
    if retain in TASKS:
        if TASKS[retain].kind != kind:
            raise CdkaError(
                f"what is to be retained must suit the model of the run ({kind}): got retain={retain!r} "
                f"({TASKS[retain].kind}). Name another task, or a text file for a language model."
            )
    elif retain:
        if kind != "causal-lm":
            raise CdkaError(
                f"a text to be retained needs a causal language model: got retain={retain!r} for {run.spec.model!r}, "
                f"which is for {kind}. Name a task of the model's kind."
            )
        if not Path(retain).exists():
            raise CdkaError(
                f"what is to be retained must be a task or a text file that is there: got retain={retain!r}. List "
                "the tasks: cdka tasks"
            )
        read_passages(Path(retain))


def _check_memory(run: ResolvedRun) -> None:
    """Raises CdkaError where the estimate is beyond all doubt above the memory of every device the run may use."""
    slots = detect()
    size, memory = job_bytes([run], device_type_of(run.spec, slots)), device_bytes_of(run.spec, slots)
    if size is not None and size > HOPELESS * memory:
        spec = run.spec
        raise CdkaError(
            f"a run must fit the memory: {spec.label} on {spec.model!r} needs about {size / 1e9:.0f} GB at batch size "
            f"{spec.batch_size}, and this machine has {memory / 1e9:.0f} GB. Take a smaller model or batch size"
            + ("." if run.task.kind.startswith("image") else " or max_length.")
        )
