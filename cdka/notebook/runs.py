"""Handles of runs and sweeps: the same rows that the Studio shows, to be waited for, stopped, drawn and read.

They hold no state of their own: a run goes on without its handle, and ``cdka.Store().run(id)`` finds it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.engine import local
from cdka.errors import CdkaError
from cdka.notebook.display import Result, in_notebook
from cdka.notebook.follow import curve_of, follow_figure, progress_text, wait_for
from cdka.runs import store as run_store
from cdka.runs.job_queue import live_jobs
from cdka.runs.metrics import EVAL_ACCURACY, words_of
from cdka.runs.run import Run, Sweep
from cdka.runs.spec import RunSpec
from cdka.runs.states import WAITING, RunState

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import nn

    from cdka.claims.judge import Finding
    from cdka.notebook.compared import ComparedRuns


class Store(run_store.Store):
    """The store of all runs; ``run`` returns a handle, everything else is as in ``cdka.runs.store.Store``.

    >>> len(cdka.Store().frame())
    0
    """

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

    spec: RunSpec
    status: RunState
    step: int
    num_params: int | None
    metrics: Mapping[str, Any]
    error: str | None
    seconds: float | None
    directory: Path
    adapter_dir: Path
    best_adapter_dir: Path | None

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

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *Run.__dataclass_fields__, *(name for name in dir(Run) if name[0] != "_")})

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

    def curve(self, y: str | None = None, *, live: bool | None = None, theme: str | None = None) -> Figure | None:
        """The Compare room's curve of a metric of this run (validation accuracy, else its loss), as a Plotly figure.

        While the run is at work it is redrawn in place in a notebook's cell until the run ends, and nothing is
        returned; with ``live`` False the figure is returned as it is now.
        """
        if live is None:
            live = in_notebook() and not self.row.status.is_finished()
        ids = [self.run_id]
        return _drawn(self.store, ids, y, theme, live)

    plot = curve

    def adapter(self, *, best: bool = False) -> nn.Module:
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


def _drawn(store: Store, run_ids: Sequence[str], y: str | None, theme: str | None, live: bool) -> Figure | None:
    """The curve of runs as it is now; None where it is followed in the cell instead."""
    if not live:
        return curve_of(store, run_ids, y, theme)
    follow_figure(store, run_ids, y, theme)
    return None


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
        """The name of the sweep."""
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
        unfinished = self.store.runs(sweep_id=self.sweep_id, status=WAITING)
        for kept in (True, False):
            some = [run.run_id for run in unfinished if (keep and run.step > 0) == kept]
            self.store.request_stops(some, keep=kept)
        return self

    def cancel(self) -> SweepHandle:
        """Ask every run that has not ended to end, keeping nothing."""
        return self.stop(keep=False)

    def curve(self, y: str | None = None, *, live: bool | None = None, theme: str | None = None) -> Figure | None:
        """The Compare room's curves: every run thin, means bold with their bands; as ``RunHandle.curve``."""
        ids = self._ids()
        if live is None:
            live = in_notebook() and not self.sweep.finished
        return _drawn(self.store, ids, y, theme, live)

    plot = curve

    def compare(self, metric: str | None = None, **settings: Any) -> ComparedRuns:
        """The comparison of its runs: ``cdka.compare_runs(sweep)``."""
        from cdka.notebook.compared import compare_runs

        return compare_runs(self, metric, **settings)

    def findings(self) -> list[Finding]:
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
            cells = ["" if score is None else f"{score:.3f}" for score in scores]
            rows.append([run.run_id, run.spec.label, run.spec.seed, params, str(run.status), *cells])
        return ["run", "configuration", "seed", "parameters", "state", "validation", "test"], rows


class Reproduction(SweepHandle):
    """The runs of an exported comparison, trained again: each new value beside the recorded one."""

    def values(self) -> pd.DataFrame:
        """One row per run: run_id, configuration, seed, recorded, reproduced (missing until the run is kept)."""
        import pandas as pd

        from cdka.compare.comparison import compare
        from cdka.compare.measure import Measure
        from cdka.compare.source import StoreSource

        plan, runs = self.sweep.plan, self.store.runs(sweep_id=self.sweep_id)
        measure = Measure(*(plan["measure"][key] for key in ("metric", "aggregation", "step")))
        again = pd.Series(dtype=float)
        if any(run.status.is_kept() for run in runs):
            again = compare(StoreSource(self.store, [self.sweep_id]), measure).frame.set_index("run_id")["value"]
        rows = [
            (run.run_id, run.spec.label, run.spec.seed, value, again.get(run.run_id, math.nan))
            for run, value in zip(runs, plan["recorded"], strict=True)
        ]
        return pd.DataFrame(rows, columns=["run_id", "configuration", "seed", "recorded", "reproduced"])

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row per run: the recorded value and the new one."""
        cells = self.values().fillna("").to_numpy(dtype=object).tolist()
        return ["run", "configuration", "seed", "recorded", "reproduced"], cells
