"""Predicted, measured and best possible alignment per layer and overall, and the child process that measures it."""

from __future__ import annotations

import os
import traceback
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import psutil

from cdka.align.record import (
    LAYER_COLUMNS,
    OVERALL_COLUMNS,
    AlignRecord,
    load_gradients,
    record_file,
    save_gradients,
    write_status,
)
from cdka.align.request import AlignRequest
from cdka.components import Components
from cdka.cost.adapter import num_params
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.models.targets import select
from cdka.theory import (
    alignment_curve,
    capture_curve,
    combine,
    effective_rank,
    expected_step_alignment,
    singular_values,
    stable_rank,
)

MAX_DECOMPOSED = 1024
Progress = Callable[[float], None]


def measure(
    request: AlignRequest,
    gradients: Mapping[str, np.ndarray],
    linears: tuple[LinearShape, ...],
    progress: Progress | None = None,
) -> AlignRecord:
    """Every cell of the request's grid on every gradient.

    Layers are combined by gradient energy (cos^2 adds up by the squared norm of each layer's gradient). Every layer
    has random numbers of its own, fixed by the seed and its path, so that adding a layer changes no other.
    ``linears`` are the target modules, for parameter counts.
    """
    report = progress or (lambda share: None)
    cells = [(r1, r2) for r1 in request.r1_values for r2 in request.r2_values]
    r_values = list(request.r_values)
    energies = {path: float(np.sum(np.square(g, dtype=np.float64))) for path, g in gradients.items()}
    measured = np.zeros((len(cells), len(gradients), request.inits, len(r_values)))
    best = np.zeros((len(cells), len(gradients), len(r_values)))
    for column, (path, gradient) in enumerate(gradients.items()):
        rng = np.random.default_rng([request.seed, zlib.crc32(path.encode())])
        for row, (r1, r2) in enumerate(cells):
            measured[row, column] = alignment_curve(gradient, r1, r2, r_values, rng, request.inits, request.step)
            curve = capture_curve(gradient, r1, r2, max_components=max(r_values))
            best[row, column] = curve[np.minimum(np.array(r_values), len(curve)) - 1]
        report((column + 1) / len(gradients))
    return AlignRecord(
        request=request,
        overall=_overall(cells, r_values, gradients, energies, measured, best, linears),
        layers=_layers(cells, r_values, gradients, measured, best),
        spectra=tuple(
            (path, *gradient.shape, energies[path], *_ranks(gradient)) for path, gradient in gradients.items()
        ),
        sampled_modules=len(gradients),
        target_modules=sum(linear.count for linear in linears),
    )


def _ranks(gradient: np.ndarray) -> tuple[float | None, float | None]:
    """Effective and stable rank; None where a full decomposition would take minutes."""
    if min(gradient.shape) > MAX_DECOMPOSED:
        return None, None
    values = np.diag(singular_values(gradient))
    return effective_rank(values), stable_rank(values)


def _overall(cells, r_values, gradients, energies, measured, best, linears) -> tuple[tuple, ...]:
    weights = list(energies.values())
    rows = []
    for row, (r1, r2) in enumerate(cells):
        for position, r in enumerate(r_values):
            components = Components(r1, r2, r)
            predicted = [components.alignment(g.shape[1]) for g in gradients.values()]
            per_init = [combine(measured[row, :, i, position], weights) for i in range(measured.shape[2])]
            values = {
                "r1": r1,
                "r2": r2,
                "r": r,
                "num_params": num_params(linears, components),
                "predicted": combine(predicted),
                "predicted_by_energy": combine(predicted, weights),
                "expected_step": combine(
                    [expected_step_alignment(components, g.shape[1]) for g in gradients.values()], weights
                ),
                "measured": float(np.mean(per_init)),
                "measured_sd": float(np.std(per_init, ddof=1)) if len(per_init) > 1 else 0.0,
                "best": combine(best[row, :, position], weights),
            }
            rows.append(tuple(values[name] for name in OVERALL_COLUMNS))
    return tuple(rows)


def _layers(cells, r_values, gradients, measured, best) -> tuple[tuple, ...]:
    rows = []
    for column, (path, gradient) in enumerate(gradients.items()):
        for row, (r1, r2) in enumerate(cells):
            for position, r in enumerate(r_values):
                inits = measured[row, column, :, position]
                values = {
                    "path": path,
                    "r1": r1,
                    "r2": r2,
                    "r": r,
                    "predicted": Components(r1, r2, r).alignment(gradient.shape[1]),
                    "measured": float(inits.mean()),
                    "measured_sd": float(inits.std(ddof=1)) if len(inits) > 1 else 0.0,
                    "best": float(best[row, column, position]),
                }
                rows.append(tuple(values[name] for name in LAYER_COLUMNS))
    return tuple(rows)


MAX_CAUSE_CHARS = 500


def measure_request(request: dict[str, Any]) -> None:
    """Measure the AlignRequest given as a dict and store the record, or the cause of a failure in one line."""
    asked = AlignRequest.from_dict(request)
    process = {"pid": os.getpid(), "started": psutil.Process().create_time()}

    def report(phase: str, share: float) -> None:
        write_status(asked, {**process, "phase": phase, "share": share})

    try:
        report("gradients", 0.0)
        gradients = gradients_of(asked)
        check_finite(gradients)
        linears = select(asked.shapes(), asked.target_modules)
        record = measure(asked, gradients, linears, lambda share: report("alignment", share))
        record.write(record_file(asked))
        return
    except CdkaError as error:
        cause = str(error)
    except Exception as error:  # one line for whoever waits; the log has the rest
        traceback.print_exc()
        cause = f"{type(error).__name__}: {error}"
    write_status(asked, {**process, "cause": " ".join(cause.split())[:MAX_CAUSE_CHARS]})


def gradients_of(request: AlignRequest) -> dict[str, np.ndarray]:
    """The gradient (out_features, in_features) in float32 of each target module, computed (by torch) unless stored."""
    stored = load_gradients(request)
    if stored is not None:
        return stored
    from cdka.train.gradients import mean_gradients

    gradients = mean_gradients(
        request.model,
        request.task,
        batches=request.batches,
        batch_size=request.batch_size,
        seed=request.seed,
        target_modules=request.target_modules,
        task_options=request.task_options,
    )
    save_gradients(request, gradients)
    return gradients


def check_finite(gradients: Mapping[str, np.ndarray]) -> None:
    """Raises CdkaError where a gradient is not finite, or all of them vanish: nothing can be measured then."""
    if not gradients:
        raise CdkaError("no target module has a gradient. Choose other target modules.")
    broken = [path for path, gradient in gradients.items() if not np.isfinite(gradient).all()]
    if broken:
        raise CdkaError(f"the gradient of {broken[0]!r} is not finite. Try another seed or a smaller batch.")
    if not any(gradient.any() for gradient in gradients.values()):
        raise CdkaError("every gradient is zero: the loss does not depend on the target modules on this batch.")
