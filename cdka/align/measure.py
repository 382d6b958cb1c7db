"""Predicted, measured and best possible alignment on given gradients, per layer and overall. NumPy, free of torch."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from cdka.align.record import LAYER_COLUMNS, OVERALL_COLUMNS, AlignRecord
from cdka.align.request import AlignRequest
from cdka.components import Components
from cdka.cost.adapter import num_params
from cdka.models.shapes import LinearShape
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
