"""Handles of runs and sweeps: the same rows that the Studio shows, to be waited for, stopped, drawn and read.

They hold no state of their own: a run goes on without its handle, and ``cdka.Store().run(id)`` finds it again.
"""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cdka.cost.time import time_left_s
from cdka.engine import local
from cdka.engine.process import own_identity
from cdka.errors import CdkaError
from cdka.formatting import clock, plural
from cdka.notebook.display import Result, chips, figure_theme, in_notebook, on_its_paper, page
from cdka.runs import store as run_store
from cdka.runs.job_queue import IN_PROCESS, begin, live_jobs
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, words_of
from cdka.runs.run import Run, Sweep
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from cdka.notebook.results import ComparedRuns

REDRAW_S = 0.5
PLAIN_LINE_S = 10.0
"""Seconds between two lines of progress where nothing can be drawn in place."""


class Store(run_store.Store):
    """The store of all runs; ``run`` returns a handle, everything else is as in ``cdka.runs.store.Store``."""

    def run(self, run_id: str) -> RunHandle:  # type: ignore[override]
        """The handle of the run called ``run_id``, whole or by an unambiguous beginning. Raises CdkaError.

        >>> cdka.Store().run("r-4kq7mz2n").metrics  # doctest: +SKIP
        """
        local.conclude_orphans(self, live_jobs(self.database))
        return RunHandle(self, super().run(run_id).run_id)

    def read_run(self, run_id: str) -> Run:
        """The run as it is now, without a handle."""
        return super().run(run_id)


class RunHandle(Result):
    """One run. What ``cdka.runs.run.Run`` has can be read here, as it is at that moment: ``status``, ``metrics``."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id

    @property
    def row(self) -> Run:
        """The run as it is now."""
        return self.store.read_run(self.run_id)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("store", "run_id"):
            raise AttributeError(name)
        return getattr(self.row, name)

    def __eq__(self, other: object) -> bool:
        return getattr(other, "run_id", None) == self.run_id

    def __hash__(self) -> int:
        return hash(self.run_id)

    def wait(self, *, progress: bool = True) -> RunHandle:
        """The handle itself once the run has ended, with its progress shown meanwhile.

        An interrupt (Ctrl-C, the kernel's stop button) ends the waiting alone; the run goes on.
        """
        wait_for(self.store, [self.run_id], progress=progress)
        return self

    def stop(self, keep: bool = True) -> RunHandle:
        """Ask the run to stop: with ``keep`` it is judged and saved as it is, else it is cancelled."""
        self.store.request_stop(self.run_id, keep)
        return self

    def cancel(self) -> RunHandle:
        """Ask the run to end, keeping nothing."""
        return self.stop(keep=False)

    def retry(self) -> RunHandle:
        """Queue the run once more, where it was stopped, cancelled, failed or lost."""
        self.store.retry(self.run_id)
        local.ensure_dispatcher(self.store)
        return self

    def log(self) -> str:
        """The end of what the run printed."""
        return self.store.log(self.run_id)

    def curves(self) -> pd.DataFrame:
        """One row per update and evaluation; see ``cdka.runs.frames.curves``."""
        return self.store.curves([self.run_id])

    def predictions(self) -> pd.DataFrame:
        """Answers on the test split: example, label, predicted."""
        return self.store.predictions(self.run_id)

    def curve(self, y: str | None = None, *, live: bool | None = None, theme: str | None = None) -> Any:
        """The Compare room's curve of a metric of this run (validation accuracy, else its loss), as a Plotly figure.

        While the run is at work it is redrawn in place in a notebook's cell until the run ends, and nothing is
        returned; with ``live`` False the figure is returned as it is now.
        """
        if live is None:
            live = in_notebook() and not self.row.status.is_finished()
        draw = follow_figure if live else curve_of
        return draw(self.store, [self.run_id], y, theme)

    plot = curve

    def adapter(self, *, best: bool = False) -> Any:
        """The PEFT model of the run, loaded with its base and ready to use: imports torch.

        ``best`` takes the adapter of the best look instead of the last. Raises CdkaError where the run has kept none.
        """
        from cdka.train.inference import load_adapter

        run = self.row
        folder = run.best_adapter_dir if best else run.adapter_dir
        if folder is None or not folder.is_dir():
            raise CdkaError(f"run {run.run_id} has kept no adapter: it is {run.status}. Wait for it: run.wait()")
        return load_adapter(folder)

    def frame(self) -> pd.DataFrame:
        """One row: settings, state and metrics."""
        return self.store.frame([self.run_id])

    def to_dict(self) -> dict[str, Any]:
        """The document of ``cdka run --json``."""
        return self.row.to_dict()

    def lines(self) -> list[str]:
        """The run in a sentence, and its state."""
        run, spec = self.row, self.row.spec
        name = f"{spec.label} on {spec.model} and {spec.task}, seed {spec.seed} ({run.run_id})"
        return [name, run.error or ""] if run.error else [name, progress_text([run])]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """The judged metrics, one row each."""
        metrics = {name: value for name, value in self.row.metrics.items() if isinstance(value, float) and "/" in name}
        return ["metric", "value"], [[words_of(name), f"{value:.4g}"] for name, value in metrics.items()]


class SweepHandle(Result):
    """A sweep: its runs, to be waited for, stopped, drawn and compared."""

    def __init__(self, store: Store, sweep_id: str) -> None:
        self.store, self.sweep_id = store, sweep_id

    @property
    def sweep(self) -> Sweep:
        """The sweep as it is now."""
        return self.store.sweep(self.sweep_id)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.sweep.name

    @property
    def runs(self) -> list[RunHandle]:
        """Its runs, in the order of the plan."""
        return [RunHandle(self.store, run.run_id) for run in self.store.runs(sweep_id=self.sweep_id)]

    def __len__(self) -> int:
        return len(self.store.runs(sweep_id=self.sweep_id))

    def __iter__(self) -> Iterator[RunHandle]:
        return iter(self.runs)

    def _ids(self) -> list[str]:
        return [run.run_id for run in self.store.runs(sweep_id=self.sweep_id)]

    def wait(self, *, progress: bool = True) -> SweepHandle:
        """The handle itself once every run has ended, with the progress shown meanwhile; as ``RunHandle.wait``."""
        wait_for(self.store, self._ids(), progress=progress)
        return self

    def stop(self, keep: bool = True) -> SweepHandle:
        """Ask every run that has not ended to stop: with ``keep`` those at work are judged and saved as they are."""
        for run in self.store.runs(sweep_id=self.sweep_id):
            if not run.status.is_finished():
                self.store.request_stop(run.run_id, keep=keep and run.step > 0)
        return self

    def cancel(self) -> SweepHandle:
        """Ask every run that has not ended to end, keeping nothing."""
        return self.stop(keep=False)

    def curve(self, y: str | None = None, *, live: bool | None = None, theme: str | None = None) -> Any:
        """The Compare room's curves: every run thin, means bold with their bands; as ``RunHandle.curve``."""
        ids = self._ids()
        if live is None:
            live = in_notebook() and not self.sweep.finished
        draw = follow_figure if live else curve_of
        return draw(self.store, ids, y, theme)

    plot = curve

    def compare(self, metric: str | None = None, **settings: Any) -> ComparedRuns:
        """The comparison of its runs: ``cdka.compare_runs(sweep)``."""
        from cdka.compare.source import StoreSource
        from cdka.notebook.results import compared

        sweep = self.sweep
        source = StoreSource(self.store, [self.sweep_id], name=sweep.name)
        return compared(source, metric, **{"choose_lr": bool(sweep.plan.get("tune_lr")), **settings})

    def findings(self) -> list[Any]:
        """The verdicts of a study, one per claim and regime. Raises CdkaError where the sweep is no study."""
        from cdka.claims import judge

        return judge(self.store, self.sweep)

    def frame(self) -> pd.DataFrame:
        """One row per run."""
        return self.store.frame(sweep_id=self.sweep_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the sweep, and each run as in ``cdka run --json``."""
        runs = [run.to_dict() for run in self.store.runs(sweep_id=self.sweep_id)]
        return {"sweep_id": self.sweep_id, "name": self.name, "runs": runs}

    def lines(self) -> list[str]:
        """The sweep, its progress, and the verdicts of a study that has ended."""
        sweep, runs = self.sweep, self.store.runs(sweep_id=self.sweep_id)
        verdicts = [found.sentence for found in self.findings()] if "study" in sweep.plan and sweep.finished else []
        return [f"{sweep.name} ({self.sweep_id})", progress_text(runs), *verdicts]

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per run."""
        rows = []
        for run in self.store.runs(sweep_id=self.sweep_id):
            known = {**run.last_eval, **run.metrics}
            scores = [known.get(name) for name in (EVAL_ACCURACY, "test/accuracy")]
            params = "" if run.num_params is None else f"{run.num_params:,}"
            told = ["" if score is None else f"{score:.3f}" for score in scores]
            rows.append([run.run_id, run.spec.label, run.spec.seed, params, str(run.status), *told])
        return ["run", "configuration", "seed", "parameters", "state", "validation", "test"], rows


def run_here(store: Store, spec: RunSpec) -> RunHandle:
    """The handle of a run that was trained in this very process, which imports torch: for debugging, and for Colab."""
    from cdka.engine.slots import Slot
    from cdka.engine.worker import JobSpec, execute
    from cdka.machine import cores

    run_id, attempt = begin(store.database, spec, own_identity(), IN_PROCESS)
    execute(JobSpec(str(store.home), ((run_id, attempt),), Slot(IN_PROCESS, None, cores())))
    return RunHandle(store, run_id)


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


def curve_of(store: run_store.Store, run_ids: Sequence[str], y: str | None, theme: str | None) -> Figure:
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


def follow_figure(store: Store, run_ids: Sequence[str], y: str | None, theme: str | None) -> Any:
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
        handle = display(figure, display_id=True)
        redraw = handle.update

    def follow() -> None:
        version = None
        while True:
            changes = store.database.changes()
            runs = store.runs(ids=run_ids)
            if changes != version:
                version = changes
                redraw(curve_of(store, run_ids, y, theme))
            if all(run.status.is_finished() for run in runs):
                return
            time.sleep(REDRAW_S)

    local.ensure_dispatcher(store)
    threading.Thread(target=follow, name="cdka-curve", daemon=True).start()


def _update_widget(widget: Any, new: Figure) -> None:
    with widget.batch_update():
        if len(widget.data) == len(new.data):
            for old, trace in zip(widget.data, new.data, strict=True):
                old.update(trace.to_plotly_json(), overwrite=True)
        else:
            widget.data = []
            widget.add_traces(new.data)
        widget.update_layout(new.layout)
