"""Measure the speed of a run without running it: what a child process of ``cdka.cost.measurement`` calls."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from cdka.runs import events
from cdka.runs.resolve import resolve_run
from cdka.runs.spec import AUTO, RunSpec
from cdka.train.loop import train
from cdka.train.pack import PHASES


def probe(spec: dict[str, Any], threads: int) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """The fields of a ``Measurement``, on ``threads`` CPU threads; yields the phase that the run is in.

    Nothing is trained.
    """
    torch.set_num_threads(threads)
    began = time.time()
    auto = dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), AUTO)
    run = resolve_run(RunSpec.from_dict(spec).with_(**auto, patience=0, report_to="", seed=0))
    seconds = {PHASES["load"]: 0.0, PHASES["prepare"]: 0.0}
    phase, since, train_of, cut = PHASES["load"], began, 0, 0
    with tempfile.TemporaryDirectory(prefix="cdka-probe-") as folder:
        stream = train([run], [Path(folder)])
        try:
            for _, event in stream:
                if isinstance(event, events.Phase):
                    now = time.time()
                    seconds[phase] = seconds.get(phase, 0.0) + now - since
                    phase, since = event.phase, now
                    yield {"phase": phase}
                    if phase == PHASES["measure"]:
                        phase = PHASES["prepare"]  # what follows is counted by itself
                elif isinstance(event, events.Start):
                    now = time.time()
                    seconds[phase] = seconds.get(phase, 0.0) + now - since
                    since, train_of, cut = now, event.train_examples or 0, event.overlong
                elif isinstance(event, events.Judged):
                    break
            measured_at = time.time()
            if run.spec.retain:
                _until_training(stream)
            retained_s = time.time() - measured_at
        finally:
            stream.close()
    return {
        "start_s": began - psutil.Process().create_time(),
        "load_s": seconds[PHASES["load"]],
        "prepare_s": seconds[PHASES["prepare"]],
        "measure_s": measured_at - since,
        "costs": dict(event.costs),
        "train_of": train_of + (cut if run.spec.overlong == "drop" else 0),
        "eval_of": event.eval_of,
        "test_of": event.test_of,
        "generates": event.generate > 0,
        "cut": cut,
        "retained_s": retained_s if run.spec.retain else 0.0,
    }


def _until_training(stream: Iterator[tuple[int, events.Event]]) -> None:
    """Go on until what is to be retained has been judged."""
    for _, event in stream:
        if isinstance(event, events.Phase) and event.phase == PHASES["train"]:
            return
