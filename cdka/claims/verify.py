"""Repeat the runs of a report, or a random share of them, and compare the values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdka.claims.report import FORMAT
from cdka.compare import Measure, StoreSource, compare
from cdka.errors import CdkaError
from cdka.models.catalogue import name_today
from cdka.runs.resolve import resolve_runs
from cdka.runs.run import Sweep
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.sweep.plan import Plan

TOLERANCE = 0.02
"""A share may differ by this on another processor or version of torch, where sums are rounded otherwise."""


@dataclass(frozen=True)
class Repeated:
    """One run of a report and its repetition: the recorded value and the new one, None where a run gave none."""

    spec: RunSpec
    recorded: float | None
    again: float | None

    def agrees(self, tolerance: float) -> bool:
        """True where both values are there and within ``tolerance``, or neither is."""
        if self.recorded is None or self.again is None:
            return self.recorded is self.again
        return abs(self.recorded - self.again) <= tolerance


def read_report(path: Path) -> dict[str, Any]:
    """The data of a report. Raises CdkaError for a file that is none, or that holds no single runs."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CdkaError(f"a report to verify must exist: got {str(path)!r}. Give the .json beside its text.") from None
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT or not document.get("studies"):
        raise CdkaError(f"a report to verify is the .json that cdka study --report wrote: got {str(path)!r}.")
    if not all(study.get("results") for study in document["studies"]):
        raise CdkaError(
            f"the report must hold its single runs: {path.name} is of version 0.1.0, which kept none. Repeat it with "
            f"the command in {path.with_suffix('.md').name}."
        )
    return document


def chosen_results(document: Mapping[str, Any], share: float, seed: int = 0) -> list[dict[str, Any]]:
    """The results to repeat: all at ``share`` 1, else a random share, at least one of every study."""
    if not 0 < share <= 1:
        raise CdkaError(f"share must be above 0 and at most 1: got {share:g}. A tenth is 0.1.")
    rng, chosen = np.random.default_rng(seed), []
    for study in document["studies"]:
        found = study["results"]
        count = max(1, round(share * len(found)))
        chosen += [found[i] for i in sorted(rng.choice(len(found), size=count, replace=False))]
    return chosen


def plan_verification(document: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Plan:
    """The sweep that repeats these results."""
    version = document.get("versions", {}).get("cdka-studio", "")
    settings = [{**one["settings"], "model": name_today(one["settings"]["model"], version)} for one in results]
    runs = resolve_runs([RunSpec.from_dict(one) for one in settings])
    name = f"verify {document['name']}"
    plan = {"name": name, "model": document["model"], "task": document["task"], "verifies": document["name"]}
    return Plan(name, (), tuple(runs), (), plan)


def repeated(store: Store, sweep: Sweep, results: Sequence[Mapping[str, Any]], metric: str) -> list[Repeated]:
    """Each result beside its repetition in ``sweep``, in the order of the plan."""
    runs = store.runs(sweep_id=sweep.sweep_id)
    frame = compare(StoreSource(store, run_ids=[run.run_id for run in runs]), Measure(metric=metric)).frame
    values = frame.set_index("run_id")["value"]
    again = [None if np.isnan(values[run.run_id]) else float(values[run.run_id]) for run in runs]
    return [Repeated(run.spec, one["value"], value) for run, one, value in zip(runs, results, again, strict=True)]
