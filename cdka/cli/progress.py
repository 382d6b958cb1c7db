"""Runs as the command line shows them: as JSON, as progress on stderr while at work, and on Ctrl-C meanwhile."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from cdka.cost.time import time_left_s
from cdka.engine import local
from cdka.errors import CdkaError
from cdka.runs.metrics import EVAL_ACCURACY, with_old_names
from cdka.runs.run import Run
from cdka.runs.states import WAITING, RunState
from cdka.runs.store import Store
from cdka.terminal import print_message

if TYPE_CHECKING:
    from rich.progress import Progress

_REDRAW_S = 0.2
_PLAIN_LINE_S = 10.0


def clock(seconds: float) -> str:
    """A duration as ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def document(run: Run) -> dict[str, Any]:
    """A run as the JSON of ``cdka run --json``; its metrics stand there under the short names of 0.1.0 too."""
    kept = run.status.is_kept()
    return {
        "run_id": run.run_id,
        "status": run.status,
        "num_params": run.num_params,
        "metrics": with_old_names(run.metrics),
        "seconds": run.seconds,
        "adapter_dir": str(run.adapter_dir) if kept else None,
        "best_adapter_dir": str(run.best_adapter_dir) if kept and run.best_adapter_dir else None,
        "judged": judged(run.metrics) if kept else None,
        **({"retained": retained(run.metrics)} if kept and run.spec.retain else {}),
        "error": run.error,
    }


def judged(metrics: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """Counts of judged examples, ``[used, of]``, by split."""
    return {split: [metrics.get(f"{split}/examples"), metrics.get(f"{split}/of")] for split in ("eval", "test")}


def retained(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The retained task's metrics before and after the run."""
    return {
        when: {name: metrics.get(f"retained/{when}_{name}") for name in ("accuracy", "loss", "examples")}
        for when in ("before", "after")
    }


def speed(per_second: float) -> str:
    """A speed with digits that mean something: ``1,234``, ``53``, ``2.4``, ``0.31``."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def describe(run: Run) -> str:
    """One line about a run at work: ``training 60/200: 0:04 < 0:10, 810 samples/s, validation accuracy 0.71``.

    While something is judged: ``evaluating 32/64 examples, step 60/200: 0:04 < 0:10``.
    """
    if run.status == RunState.QUEUED:
        return "queued"
    steps, progress = f"{run.step}/{run.spec.steps}", run.progress
    training = not progress or progress["unit"] == "steps"
    if training or progress["phase"] != run.phase:
        parts = [f"{run.phase or run.status} {steps}"]
    else:
        parts = [f"{run.phase} {progress['done']:.0f}/{progress['of']} {progress['unit']}, step {steps}"]
    if run.remaining_s is not None:
        parts[0] += f": {clock(run.elapsed_s)} < {clock(run.remaining_s)}"
        parts.append(f"{speed(run.samples_per_s)} samples/s")
        if progress.get("tokens_per_s"):
            parts.append(f"{speed(progress['tokens_per_s'])} tokens/s")
    if (accuracy := run.last_eval.get(EVAL_ACCURACY)) is not None:
        parts.append(f"validation accuracy {accuracy:.3f}")
    return ", ".join(parts)


class Bar:
    """Progress on stderr: a bar on a terminal, else a line now and then.

    One run is described; of many, the count and the time left are shown. A context manager, called with the runs.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._drawn = -math.inf
        self._last = ""

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = BarColumn(20), TextColumn("{task.description}", markup=False)
            self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
            self._bar.start()
            self._bar.add_task("")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, runs: Sequence[Run]) -> None:
        now = time.monotonic()
        done = all(run.status.is_finished() for run in runs)
        wait_s = _PLAIN_LINE_S if self._bar is None else _REDRAW_S
        if not runs or (now - self._drawn < wait_s and not done):
            return
        self._drawn = now
        line = self._text(runs)
        if self._bar is not None:
            steps = sum(run.spec.steps for run in runs)
            made = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
            self._bar.update(self._bar.task_ids[0], description=line, total=steps, completed=made, refresh=True)
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
    interrupts = 0
    with nullcontext() if quiet else Bar() as on_change:
        while True:
            try:
                return local.wait(store, run_ids, on_change)
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts > 2:
                    raise
                keep = interrupts == 1
                print_message("\nstopping, keeping what there is; Ctrl-C again cancels" if keep else "\ncancelling")
                unfinished = store.runs(ids=run_ids, status=WAITING)
                for kept in (True, False):
                    some = [run.run_id for run in unfinished if (keep and run.step > 0) == kept]
                    store.request_stops(some, keep=kept)


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
