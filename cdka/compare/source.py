"""Sources of a comparison's runs: the store, or (see ``bundle``) a file somebody sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from cdka.errors import CdkaError, unknown
from cdka.runs.states import RunState

if TYPE_CHECKING:
    from cdka.runs.run import Sweep
    from cdka.runs.store import Store


class Source(Protocol):
    """The data that a comparison reads. Frames are as ``Store`` gives them."""

    name: str

    def frame(self) -> pd.DataFrame:
        """One row per run."""

    def specs(self) -> dict[str, dict[str, Any]]:
        """The whole specification of each run, by run id."""

    def curves(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Evaluations and training losses along the way."""

    def predictions(self, run_id: str) -> pd.DataFrame:
        """The per-example predictions of one run; empty where none were stored."""

    def adapter_dir(self, run_id: str) -> Path | None:
        """The folder of a run's adapter; None where it has none."""

    def versions(self, run_id: str) -> dict[str, str]:
        """The package versions that a run was made with."""

    def errors(self) -> dict[str, str]:
        """Causes of failed runs, by run id."""

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of each run as they were reported, by run id; empty until it is kept."""


def find_sweep(store: Store, name: str | None) -> Sweep:
    """The sweep with this id, beginning of an id, or name (the newest of that name); where None the newest that was
    not cancelled as a whole.

    Raises CdkaError with the nearest names where there is none.
    """
    sweeps = store.sweeps()
    if not sweeps:
        raise CdkaError(
            "there are no sweeps yet. Start one: cdka sweep --model digits-vit --task digits-flip --grid ... "
            "What it gives: cdka compare example"
        )
    if name is None:
        return newest(sweeps) or sweeps[0]
    for match in (
        lambda sweep: sweep.sweep_id == name,
        lambda sweep: sweep.name == name,
        lambda sweep: len(name) > 1 and sweep.sweep_id.startswith(name),
    ):
        found = [sweep for sweep in sweeps if match(sweep)]
        if found:
            return found[0]
    known = [text for sweep in sweeps for text in (sweep.sweep_id, sweep.name)]
    raise unknown("sweep", name, known, next_step="Leave it out for the newest one.")


def newest(sweeps: Sequence[Sweep]) -> Sweep | None:
    """The first of ``sweeps``, which come newest first, that was not cancelled as a whole."""
    return next((sweep for sweep in sweeps if sweep.counts.keys() - {RunState.CANCELLED}), None)


class StoreSource:
    """The runs of one or more sweeps, or chosen runs, read from the store."""

    def __init__(
        self, store: Store, sweep_ids: Sequence[str] = (), run_ids: Sequence[str] | None = None, name: str = ""
    ):
        self.store = store
        chosen = list(run_ids) if run_ids is not None else []
        for sweep_id in sweep_ids:
            chosen += [run.run_id for run in store.runs(sweep_id=sweep_id)]
        self.run_ids = list(dict.fromkeys(chosen))
        self.name = name or ", ".join(sweep_ids)

    def _runs(self):
        return self.store.runs(ids=self.run_ids) if self.run_ids else []

    def frame(self) -> pd.DataFrame:
        return self.store.frame(run_ids=self.run_ids)

    def specs(self) -> dict[str, dict[str, Any]]:
        return {run.run_id: run.spec.to_dict() for run in self._runs()}

    def curves(self, run_ids: Sequence[str]) -> pd.DataFrame:
        return self.store.curves(list(run_ids))

    def predictions(self, run_id: str) -> pd.DataFrame:
        return self.store.predictions(run_id)

    def adapter_dir(self, run_id: str) -> Path | None:
        directory = self.store.run(run_id).adapter_dir
        return directory if directory.is_dir() else None

    def versions(self, run_id: str) -> dict[str, str]:
        attempts = self.store.attempts(run_id)
        return attempts[-1]["versions"] if attempts else {}

    def errors(self) -> dict[str, str]:
        return {run.run_id: run.error for run in self._runs() if run.error}

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {run.run_id: dict(run.metrics) for run in self._runs()}
