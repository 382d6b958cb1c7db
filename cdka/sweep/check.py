"""Checks of a run before it is queued. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from cdka.cost.params import count_params
from cdka.engine.slots import check_device
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import ModelShapes
from cdka.runs.spec import QUANTIZED, RunSpec
from cdka.tasks.catalogue import find_task


def checked(spec: RunSpec) -> RunSpec:
    """The spec, ready for a worker that runs in another folder: a model directory has become an absolute path.

    Raises CdkaError for an unknown model, module or device, for components that do not divide (every place named),
    and for a model that cannot do the task.
    """
    return checked_all([spec])[0]


def checked_all(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """``checked`` for many specs; each model is looked up once."""
    names = {known.name for known in list_models()}
    shapes: dict[str, ModelShapes] = {}
    ready = []
    for spec in specs:
        if spec.model not in shapes:
            shapes[spec.model] = find_model(spec.model)
        _check_kind(spec, shapes[spec.model])
        _check_size(spec, shapes[spec.model])
        check_device(spec.device)
        _check_precision(spec)
        catalogued = spec.model in names or spec.model == shapes[spec.model].hub_id
        path = Path(spec.model).expanduser()
        ready.append(spec.with_(model=str(path.resolve())) if path.is_dir() and not catalogued else spec)
    return ready


def _check_size(spec: RunSpec, shapes: ModelShapes) -> None:
    num_params = count_params(spec, shapes)
    if spec.method != "full" and num_params > shapes.base_params:
        what = "r" if spec.method == "cdka" else "the rank"
        raise CdkaError(
            f"an adapter must be smaller than its model: got {num_params:,} parameters for {spec.label} on "
            f"{spec.model!r}, which has {shapes.base_params:,}. Lower {what}, or use method full."
        )


def _check_precision(spec: RunSpec) -> None:
    if spec.dtype in QUANTIZED and find_spec("bitsandbytes") is None:
        raise CdkaError(
            f"a base in {spec.dtype} needs bitsandbytes, which is not installed. Run: pip install bitsandbytes; or use "
            "dtype auto."
        )


def _check_kind(spec: RunSpec, shapes: ModelShapes) -> None:
    task = find_task(spec.task)
    if task.kind.startswith("image") != shapes.kind.startswith("image"):
        made_for = f" Models made for it: {', '.join(task.models)}." if task.models else ""
        raise CdkaError(
            f"the model must suit the task: got {spec.model!r} ({shapes.kind}) for {spec.task!r} ({task.kind})."
            + made_for
        )
