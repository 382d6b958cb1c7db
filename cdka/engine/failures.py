"""The cause of a failed run, in one line with the next step. The traceback stays in the run's log."""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence

from cdka.cost.memory import PROCESS_BYTES, job_bytes
from cdka.errors import CdkaError
from cdka.runs.resolve import ResolvedRun
from cdka.runs.states import RunState

EXIT_UNRECORDED = 74
"""A worker's exit code when the store could not be written for so long that it gave up (EX_IOERR)."""
_ENDED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """True where the disk, or the user's share of it, has no room left."""
    return error.errno in _FULL


def _lower(runs: Sequence[ResolvedRun]) -> str:
    spec = runs[0].spec
    knobs = [f"batch_size (now {spec.batch_size}; gradient_accumulation splits it and gives the same result)"]
    if not runs[0].task.kind.startswith("image"):
        knobs.append(f"max_length (now {spec.max_length})")
    if not spec.gradient_checkpointing:
        knobs.append("or set gradient_checkpointing")
    if len(runs) > 1:
        knobs.append(f"or train fewer runs at once (now {len(runs)} in a pack)")
    return "Lower " + ", ".join(knobs) + "."


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _out_of_memory(runs: Sequence[ResolvedRun], peak_bytes: int | None, device_type: str) -> str:
    used = f" after using {_size(peak_bytes)}" if peak_bytes else ""
    expected = job_bytes(runs, device_type) if runs else None
    estimate = "" if expected is None else f" (estimate: {_size(expected)}, {_size(PROCESS_BYTES)} of it the process)"
    return f"out of memory{used}{estimate}." + (f" {_lower(runs)}" if runs else "")


def cause_of(
    error: BaseException, runs: Sequence[ResolvedRun], peak_bytes: int | None = None, device_type: str = "cpu"
) -> str:
    """The one-line cause of an exception that ended the job of ``runs``, which had used ``peak_bytes`` at most."""
    text = " ".join(str(error).split())
    on_cpu = "allocate memory" in text or "not enough memory" in text  # torch's words there, in a RuntimeError
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or on_cpu:
        return _out_of_memory(runs, peak_bytes, device_type)
    if isinstance(error, CdkaError):
        return text
    if (isinstance(error, OSError) and is_full(error)) or "No space left on device" in text:
        return "the disk is full: nothing more could be saved. Free some space and retry; what was finished is intact."
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def outcome_of(exit_status: int | None, log: str) -> tuple[str, str]:
    """(status, cause) of runs whose process ended without a report, from ``returncode`` (negative: a signal).

    None means that the process is gone and nobody saw how.
    """
    last = next((line.strip()[:300] for line in reversed(log.splitlines()) if line.strip()), "")
    tail = f" The log ends with: {last}" if last else ""
    if exit_status is None:
        return RunState.LOST, "its process is gone and left no report. Retry the run."
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


ORPHANED = "the process that trained it has ended without a report. Run it again there."
REBOOTED = "the machine was restarted while the run was at work. Retry the run."
COPIED = "this home is a copy; the run goes on in the original. Retry it to repeat it here."


def hung(silent_s: float) -> str:
    """The cause of a run whose process lived and did nothing."""
    return f"its process gave no sign of life for {silent_s:.0f} s and was ended. Retry the run."
