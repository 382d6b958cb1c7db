"""The cause of a failed run, in one line with the next step. The traceback stays in the run's log."""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence

from cdka.components import Components
from cdka.cost.memory import training_memory
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.tasks.catalogue import find_task

EXIT_UNRECORDED = 74
"""A worker's exit code when the store could not be written for so long that it gave up (EX_IOERR)."""
_ENDED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _lower(specs: Sequence[RunSpec]) -> str:
    spec = specs[0]
    knobs = [f"batch_size (now {spec.batch_size}; gradient_accumulation splits it and gives the same result)"]
    if not find_task(spec.task).kind.startswith("image"):
        knobs.append(f"max_length (now {spec.max_length})")
    if not spec.gradient_checkpointing:
        knobs.append("or set gradient_checkpointing")
    if len(specs) > 1:
        knobs.append(f"or train fewer runs at once (now {len(specs)} in a pack)")
    return "Lower " + ", ".join(knobs) + "."


def _estimated_bytes(spec: RunSpec) -> int | None:
    """Estimated memory of one run, by shapes alone; None where it cannot be estimated."""
    components = spec.components or (spec.rank and Components(1, 1, spec.rank))
    if not components:
        return None
    try:
        shapes = find_model(spec.model)
        return training_memory(
            shapes,
            select(shapes, spec.target_modules),
            components,
            batch_size=spec.batch_size,
            length=None if find_task(spec.task).kind.startswith("image") else spec.max_length,
            dtype="float32" if spec.dtype in ("auto", "float64") else spec.dtype,
            gradient_checkpointing=spec.gradient_checkpointing,
        ).total_bytes
    except CdkaError:
        return None


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _out_of_memory(specs: Sequence[RunSpec], peak_bytes: int | None) -> str:
    used = f" after using {_size(peak_bytes)}" if peak_bytes else ""
    expected = _estimated_bytes(specs[0])
    estimate = f" (estimate for one run: {_size(expected)} and 0.6 GB for the process)" if expected else ""
    return f"out of memory{used}{estimate}. {_lower(specs)}"


def cause_of(error: BaseException, specs: Sequence[RunSpec], peak_bytes: int | None = None) -> str:
    """The one-line cause of an exception that ended a worker, which had used ``peak_bytes`` at most."""
    text = " ".join(str(error).split())
    on_cpu = "allocate memory" in text or "not enough memory" in text  # torch's words there, in a RuntimeError
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or on_cpu:
        return _out_of_memory(specs, peak_bytes)
    if isinstance(error, CdkaError):
        return text
    if (isinstance(error, OSError) and error.errno in _FULL) or "No space left on device" in text:
        return "the disk is full: nothing more could be saved. Free some space and retry; what was finished is intact."
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def outcome_of(exit_status: int | None, log: str) -> tuple[str, str]:
    """(status, cause) of runs whose process ended without a last word, from ``returncode`` (negative: a signal).

    None means that the process is gone and nobody saw how.
    """
    last = next((line.strip()[:300] for line in reversed(log.splitlines()) if line.strip()), "")
    tail = f" The log ends with: {last}" if last else ""
    if exit_status is None:
        return RunState.LOST, "its process is gone and left no last word. Retry the run."
    if exit_status < 0:
        try:
            name = signal.Signals(-exit_status).name
        except ValueError:
            name = f"signal {-exit_status}"
        if -exit_status in _ENDED_FROM_OUTSIDE:
            hint = " (by someone, or by the system when it ran out of memory)" if name == "SIGKILL" else ""
            return RunState.LOST, f"its process was killed with {name}{hint}. Retry the run."
        return RunState.FAILED, f"its process crashed with {name}.{tail}"
    if exit_status == EXIT_UNRECORDED:
        reason = "the run store could not be written for a long time: the disk was full, or locked."
        return RunState.FAILED, reason + tail
    if exit_status == 0:
        return RunState.FAILED, f"its process ended without a result.{tail}"
    return RunState.FAILED, f"its process ended with exit code {exit_status}.{tail}"


REBOOTED = "the machine was restarted while the run was at work. Retry the run."
