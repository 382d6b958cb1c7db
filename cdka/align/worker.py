"""The process that measures: ``python -m cdka.align.worker REQUEST_JSON``."""

from __future__ import annotations

import json
import os
import sys
import traceback

import psutil

from cdka.align.lab import record_file, write_state
from cdka.align.measure import measure
from cdka.align.request import AlignRequest
from cdka.errors import CdkaError
from cdka.models.targets import select
from cdka.train.gradients import check_finite, load_or_compute


def main(argv: list[str]) -> int:
    """Measure what the request asks and store the record; a failure is stored as its cause in one line."""
    request = AlignRequest.from_dict(json.loads(argv[0]))
    own = {"pid": os.getpid(), "started": psutil.Process().create_time()}

    def tell(phase: str, share: float) -> None:
        write_state(request, {**own, "phase": phase, "share": share})

    try:
        tell("gradients", 0.0)
        gradients = load_or_compute(request)
        check_finite(gradients)
        linears = select(request.shapes(), request.target_modules)
        record = measure(request, gradients, linears, lambda share: tell("alignment", share))
        record.write(record_file(request))
        return 0
    except CdkaError as error:
        cause = str(error)
    except Exception as error:  # told in one line to whoever waits; the log has the rest
        traceback.print_exc()
        cause = f"{type(error).__name__}: {error}"
    write_state(request, {**own, "cause": " ".join(cause.split())[:500]})
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
