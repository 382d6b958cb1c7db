"""A study whose runs ended as a function says, without any training: for the tests of verdicts and reports."""

from __future__ import annotations

import json
from collections.abc import Callable

from cdka.claims import STUDIES, plan_study
from cdka.runs.run import Sweep
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store


def finished(
    store: Store,
    name: str,
    accuracy: Callable[[RunSpec], float | None],
    *,
    seeds: int | None = 3,
    further: Callable[[RunSpec], dict[str, float]] = lambda spec: {},
) -> Sweep:
    """The sweep of study ``name``; a run diverged where ``accuracy`` is None. ``further`` gives other metrics."""
    planned = plan_study(STUDIES[name], seeds=seeds)
    sweep_id = store.create_sweep(planned.name, planned.document, planned.specs)
    with store.database.write() as sql:
        for run in store.runs(sweep_id=sweep_id):
            value = accuracy(run.spec)
            if value is None:
                sql.execute("UPDATE runs SET status='failed', error='diverged' WHERE run_id=?", (run.run_id,))
                continue
            metrics = {"test/accuracy": value, "eval/best_accuracy": value, "eval/accuracy": value, **further(run.spec)}
            sql.execute(
                "UPDATE runs SET status='done', metrics=?, started_at=0, finished_at=1, num_params=9 WHERE run_id=?",
                (json.dumps(metrics), run.run_id),
            )
    return store.sweep(sweep_id)
