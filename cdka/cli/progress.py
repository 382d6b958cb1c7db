"""Runs as the command line shows them: as JSON, as progress on stderr while at work, and on Ctrl-C meanwhile."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from cdka.engine import local
from cdka.errors import CdkaError
from cdka.models import gguf
from cdka.notebook.follow import progress_text
from cdka.paths import pasted
from cdka.runs.run import Run
from cdka.runs.states import WAITING, RunState
from cdka.runs.store import Store
from cdka.terminal import print_message

if TYPE_CHECKING:
    from rich.progress import Progress

_REDRAW_S = 0.2
_PLAIN_LINE_S = 10.0


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
        line = progress_text(runs)
        if self._bar is not None:
            steps = sum(run.spec.steps for run in runs)
            made = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
            self._bar.update(self._bar.task_ids[0], description=line, total=steps, completed=made, refresh=True)
        elif line != self._last and not done:
            print_message(line)
        self._last = line


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


def convert_model(name: str) -> None:
    """Convert the GGUF file that ``name`` may mean, with a line now and then; nothing where that was done before.

    Raises CdkaError for a file that cannot be converted.
    """
    file = gguf.gguf_file(pasted(name))
    if file is None:
        return
    printed_at = -math.inf
    for progress in gguf.convert(file):
        if time.monotonic() - printed_at >= _PLAIN_LINE_S:
            printed_at = time.monotonic()
            share = f": {progress['done']}/{progress['of']} tensors" if progress.get("of") else ", once"
            print_message(f"converting {file.name} to safetensors{share}")


def print_failures(store: Store, runs: Sequence[Run]) -> None:
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
