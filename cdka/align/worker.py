"""The measurement itself, run in a process of its own by ``cdka.align.lab.start``."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil

from cdka.align.files import load_gradients, record_file, save_gradients, write_status
from cdka.align.measure import measure
from cdka.align.request import AlignRequest
from cdka.errors import CdkaError
from cdka.models.targets import select

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
