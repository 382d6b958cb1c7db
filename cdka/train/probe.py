"""Measure the speed of a run without running it: what a child process of ``cdka.cost.measurement`` calls."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil

from cdka.runs import events
from cdka.runs.resolve import resolve_run
from cdka.runs.spec import AUTO, RunSpec
from cdka.train.loop import train
from cdka.train.pack import PHASES


def probe(spec: dict[str, Any]) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """The fields of a ``Measurement``; yields the phase that the run is in. Nothing is trained."""
    began = psutil.Process().create_time()  # imports are part of loading
    auto = dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), AUTO)
    run = resolve_run(RunSpec.from_dict(spec).with_(**auto, patience=0, retain="", report_to="", seed=0))
    seconds = {PHASES["load"]: 0.0, PHASES["prepare"]: 0.0}
    phase, since, train_of = PHASES["load"], began, 0
    with tempfile.TemporaryDirectory(prefix="cdka-probe-") as folder:
        stream = train([run], [Path(folder)])
        try:
            for _, event in stream:
                if isinstance(event, events.Phase):
                    now = time.time()
                    seconds[phase] += now - since
                    phase, since = event.phase, now
                    yield {"phase": phase}
                elif isinstance(event, events.Start):
                    now = time.time()
                    seconds[phase] += now - since
                    since, train_of = now, event.train_examples or 0
                    yield {"phase": "measuring"}
                elif isinstance(event, events.Judged):
                    break
        finally:
            stream.close()
    return {
        "load_s": seconds[PHASES["load"]],
        "prepare_s": seconds[PHASES["prepare"]],
        "measure_s": time.time() - since,
        "costs": dict(event.costs),
        "train_of": train_of,
        "eval_of": event.eval_of,
        "test_of": event.test_of,
        "generates": event.generate > 0,
    }
