"""Progress on stderr while runs are at work, and what Ctrl-C means meanwhile."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from cdka.cost.time import time_left_s
from cdka.engine import local
from cdka.errors import CdkaError
from cdka.runs.run import Run
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.terminal import print_message

_REDRAW_S = 0.2
_PLAIN_LINE_S = 10.0


def clock(seconds: float) -> str:
    """A duration as ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(run: Run) -> str:
    """One line about a run at work: ``training 60/200: 0:04 < 0:10, 810 samples/s, validation accuracy 0.71``."""
    if run.status == RunState.QUEUED:
        return "queued"
    parts = [f"{run.phase or run.status} {run.step}/{run.spec.steps}"]
    if run.remaining_s is not None:
        parts[0] += f": {clock(run.elapsed_s)} < {clock(run.remaining_s)}"
        parts.append(f"{run.samples_per_s:,.0f} samples/s")
    if run.last_eval.get("accuracy") is not None:
        parts.append(f"validation accuracy {run.last_eval['accuracy']:.3f}")
    return ", ".join(parts)


class Bar:
    """Draws one line for one run, or a count and the slowest remaining time for many."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._drawn = -1e9
        self._last = ""

    def __call__(self, runs: Sequence[Run]) -> None:
        now = time.monotonic()
        done = all(run.status.is_finished() for run in runs)
        if not runs or (now - self._drawn < (_REDRAW_S if self._live else _PLAIN_LINE_S) and not done):
            return
        self._drawn = now
        steps = sum(run.spec.steps for run in runs)
        made = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
        line = self._text(runs)
        if self._live:
            filled = round(20 * made / steps)
            width = shutil.get_terminal_size().columns - 1
            line = f"[{'#' * filled}{'.' * (20 - filled)}] {line}"[:width]
            sys.stderr.write("\r" + line.ljust(len(self._last)))
            sys.stderr.write("\n" if done else "")
            sys.stderr.flush()
        elif line != self._last and not done:
            print_message(line)
        self._last = line

    @staticmethod
    def _text(runs: Sequence[Run]) -> str:
        if len(runs) == 1:
            return describe(runs[0]) if not runs[0].status.is_finished() else runs[0].status
        finished = [run for run in runs if run.status.is_finished()]
        bad = sum(run.status in (RunState.FAILED, RunState.LOST) for run in finished)
        left = time_left_s(runs)
        text = f"{len(finished)}/{len(runs)} runs" + (f", {bad} failed" if bad else "")
        return text + (f", about {clock(left)} to go" if left else "")


def follow(store: Store, run_ids: Sequence[str], *, quiet: bool = False) -> list[Run]:
    """Wait for runs, showing progress; the runs once all have ended.

    Ctrl-C asks those at work to stop and keep what they have, and cancels the others; a second one cancels all.
    """
    on_change = None if quiet else Bar()
    asked = 0
    while True:
        try:
            return local.wait(store, run_ids, on_change)
        except KeyboardInterrupt:
            asked += 1
            if asked > 2:
                raise
            keep = asked == 1
            print_message("\nstopping, keeping what there is; Ctrl-C again cancels" if keep else "\ncancelling")
            for run in store.runs(ids=run_ids):
                if not run.status.is_finished():
                    store.request_stop(run.run_id, keep=keep and run.step > 0)


def tell_failures(store: Store, runs: Sequence[Run]) -> None:
    """Say on stderr why runs failed or were lost, each reason once, and where to read on."""
    reasons: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        if run.status in (RunState.FAILED, RunState.LOST):
            reasons.setdefault((run.status, run.error), []).append(run)
    for (status, error), alike in reasons.items():
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        print_message(f"{alike[0].run_id}{more} {status}: {error}")
        with suppress(CdkaError, OSError):
            if store.log(alike[0].run_id):
                print_message(f"  its log: cdka runs log {alike[0].run_id}")


def exit_code(runs: Sequence[Run]) -> int:
    """0 if every run was kept, else 1."""
    return 0 if runs and all(run.status.is_kept() for run in runs) else 1
