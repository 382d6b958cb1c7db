"""Runs at work, followed where the code is: progress in words and as a bar, and curves that are redrawn in place."""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cdka.cost.time import time_left_s
from cdka.engine import local
from cdka.formatting import clock, plural
from cdka.notebook.display import chips, figure_theme, in_notebook, on_its_paper, page
from cdka.runs.job_queue import halving_undecided
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS
from cdka.runs.run import Run
from cdka.runs.states import RunState
from cdka.runs.store import Store

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

REDRAW_S = 0.5
PLAIN_LINE_S = 10.0
"""Seconds between two lines of progress where nothing can be drawn in place."""


def speed(per_second: float) -> str:
    """A speed with digits that mean something: ``1,234``, ``53``, ``2.4``, ``0.31``."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def describe_run(run: Run) -> str:
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
        parts.append(f"{speed(run.samples_per_s or 0.0)} samples/s")
        if progress.get("tokens_per_s"):
            parts.append(f"{speed(progress['tokens_per_s'])} tokens/s")
    if (accuracy := run.last_eval.get(EVAL_ACCURACY)) is not None:
        parts.append(f"validation accuracy {accuracy:.3f}")
    elif (loss := run.last_eval.get(EVAL_LOSS)) is not None:
        parts.append(f"validation loss {loss:.3f}")
    return ", ".join(parts)


def progress_text(runs: Sequence[Run]) -> str:
    """The progress of runs in a line: one run is described; of many, the count and the time left are given."""
    if len(runs) == 1:
        return describe_run(runs[0]) if not runs[0].status.is_finished() else str(runs[0].status)
    finished = [run for run in runs if run.status.is_finished()]
    bad = sum(run.status in (RunState.FAILED, RunState.LOST) for run in finished)
    left = time_left_s(runs)
    text = f"{len(finished)}/{len(runs)} runs" + (f", {bad} failed" if bad else "")
    return text + (f", about {clock(left)} to go" if left else "")


def wait_for(store: Store, run_ids: Sequence[str], *, progress: bool = True) -> list[Run]:
    """The runs once all have ended. Progress is a bar in a notebook's cell, else a line now and then."""
    shown = _Progress() if progress else None
    runs = local.wait(store, run_ids, None if shown is None else shown.show)
    if shown is not None:
        shown.close(runs)
    return runs


class _Progress:
    """Progress of runs where the code is: redrawn in place in a notebook, printed elsewhere."""

    def __init__(self) -> None:
        self._drawn, self._handle = -math.inf, None
        self._every_s = REDRAW_S if in_notebook() else PLAIN_LINE_S

    def show(self, runs: list[Run]) -> None:
        now = time.monotonic()
        if now - self._drawn < self._every_s:
            return
        self._drawn = now
        self._draw(runs)

    def close(self, runs: list[Run]) -> None:
        """The last state: what ended badly says why."""
        self._draw(runs)
        for error in dict.fromkeys(run.error for run in runs if run.error):
            print(error)

    def _draw(self, runs: list[Run]) -> None:
        text = progress_text(runs)
        if not in_notebook():
            print(text, flush=True)
            return
        from IPython.display import HTML, display

        steps = sum(run.spec.steps for run in runs)
        made = sum(run.spec.steps if run.status.is_finished() else run.step for run in runs)
        name = chips(runs[0].spec.label) if len(runs) == 1 else plural(len(runs), "run")
        bar = f'<progress value="{made}" max="{steps or 1}"></progress>'
        drawn = HTML(page(f"<p>{name} {bar} {html.escape(text)}</p>"))
        if self._handle is None:
            self._handle = display(drawn, display_id=True)
        else:
            self._handle.update(drawn)


def curve_of(store: Store, run_ids: Sequence[str], y: str | None, theme: str | None) -> Figure:
    """The Compare room's curves of these runs: ``y``, else the validation accuracy where it is known, else its loss."""
    from cdka.compare.comparison import compare
    from cdka.compare.figures.curves import curve_figure
    from cdka.compare.source import StoreSource

    source = StoreSource(store, run_ids=run_ids)
    curves, comparison = source.curves(run_ids), compare(source)
    known = [name for name in (EVAL_ACCURACY, EVAL_LOSS) if curves[name].notna().any()]
    colours = figure_theme(theme)
    shown = comparison.arms["arm"].to_list()
    figure = curve_figure(curves, comparison, shown, y=y or (known or [EVAL_ACCURACY])[0], theme=colours)
    return on_its_paper(figure, colours)


def follow_figure(store: Store, run_ids: Sequence[str], y: str | None, theme: str | None) -> None:
    """Show the curves of runs at work and redraw them in place, from a thread, until all have ended.

    With anywidget installed it is Plotly's FigureWidget, whose zoom stays; else the cell's output is replaced.
    """
    from importlib.util import find_spec

    from IPython.display import display

    figure = curve_of(store, run_ids, y, theme)
    if find_spec("anywidget") is not None:
        from plotly.graph_objects import FigureWidget

        widget = FigureWidget(figure)
        display(widget)
        redraw: Callable[[Figure], None] = lambda new: _update_widget(widget, new)  # noqa: E731
    else:
        handle = display(_drawn(figure), raw=True, display_id=True)
        redraw = lambda new: handle.update(_drawn(new), raw=True)  # noqa: E731

    def follow() -> None:
        version = None
        while True:
            changes = store.database.changes()
            runs = store.runs(ids=run_ids)
            if changes != version:
                version = changes
                redraw(curve_of(store, run_ids, y, theme))
            if all(run.status.is_finished() for run in runs) and not halving_undecided(store.database, run_ids):
                return
            time.sleep(REDRAW_S)

    local.ensure_dispatcher(store)
    threading.Thread(target=follow, name="cdka-curve", daemon=True).start()


def _drawn(figure: Figure) -> dict[str, Any]:
    """The figure as Plotly's renderer has it: shown as itself, each update would draw it once more."""
    return dict(figure._repr_mimebundle_())


def _update_widget(widget: Any, new: Figure) -> None:
    layout = new.layout.to_plotly_json()
    annotations = layout.pop("annotations", [])
    with widget.batch_update():
        if len(widget.data) == len(new.data):
            for old, trace in zip(widget.data, new.data, strict=True):
                old.update(trace.to_plotly_json(), overwrite=True)
        else:
            widget.data = []
            widget.add_traces(new.data)
        widget.update_layout(layout)
    widget.layout.annotations = annotations  # whole and alone: one more label, or one less, cannot be merged
