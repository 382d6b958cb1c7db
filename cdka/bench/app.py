"""Waiting times in the Studio: from the click to the first step, a poll of live runs, the queueing of a sweep."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdka.engine import local
from cdka.errors import CdkaError
from cdka.runs.events import Evaluated, Step
from cdka.runs.job_queue import Batch, claim, record_events, reserve
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS
from cdka.runs.resolve import spec_for
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.sweep.launch import launch_runs
from cdka.terminal import print_table

LIVE_RUNS, POINTS, NEW_POINTS = 30, 2000, 20
QUEUED_RUNS = 200
PAGES = 8
TARGETS = {"warm_start_s": 1.0, "page_s": 0.1, "poll_s": 0.1, "queue_s": 2.0}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Medians in seconds: ``cold_start_s`` and ``warm_start_s`` from submit to the first training step of digits-vit,
    ``poll_s`` for the new points of 30 live runs, ``first_poll_s`` for their 2,000 points, ``page_s`` for all that the
    server does each second to show them (poll, charts, rows; processor time), ``queue_s`` for 200 runs.
    """
    rounds = args.rounds or (1 if args.quick else 5)
    with tempfile.TemporaryDirectory(prefix="cdka-bench-") as folder:
        store = Store(folder)
        try:
            spec = spec_for("digits-vit", "digits-flip", components="2,8,4", steps=3, device=args.device)
            cold = _start(store, spec)
            warm = [_start(store, spec.with_(seed=seed)) for seed in range(rounds)]
        finally:
            _end(store)
        queue = [_queue(store, spec) for _ in range(rounds)]
        store.close()
    with tempfile.TemporaryDirectory(prefix="cdka-bench-") as folder:
        store = Store(folder)
        first, polls, pages = _poll(store, spec, rounds)
        store.close()
    return {
        "rounds": rounds,
        "targets": TARGETS,
        "cold_start_s": cold,
        "warm_start_s": statistics.median(warm),
        "warm_starts_s": warm,
        "poll_s": statistics.median(polls),
        "first_poll_s": first,
        "page_s": statistics.median(pages),
        "queue_s": statistics.median(queue),
        "live_runs": LIVE_RUNS,
        "points": POINTS,
        "new_points": NEW_POINTS,
        "queued_runs": QUEUED_RUNS,
    }


def show(document: dict[str, Any]) -> None:
    """The document as a table."""
    live, points, new = document["live_runs"], document["points"], document["new_points"]
    rows = [
        ("click to first step, warm", "warm_start_s"),
        ("click to first step, nothing running", "cold_start_s"),
        (f"page of {live} live runs, {new} new points each", "page_s"),
        ("  of which the poll of the store", "poll_s"),
        (f"first look at {live} live runs of {points:,} points", "first_poll_s"),
        (f"queue {document['queued_runs']} runs", "queue_s"),
    ]
    targets = document["targets"]
    print_table(
        ["what", "seconds", "target"],
        [[what, f"{document[key]:.3f}", f"{targets[key]:g}" if key in targets else ""] for what, key in rows],
    )


def _start(store: Store, spec: RunSpec) -> float:
    clicked = time.time()
    (run_id,) = launch_runs([spec], store)
    (ended,) = local.wait(store, [run_id], every_s=0.02)
    if ended.error:
        raise CdkaError(f"the bench needs a run that goes through: {ended.error}")
    first = store.events(run_id, kinds=[Step.kind])[0]
    return first["at"] - clicked


def _end(store: Store) -> None:
    pid = local.dispatcher_pid(store.home)
    if pid:
        os.kill(pid, signal.SIGTERM)
    while local.dispatcher_pid(store.home) is not None:
        time.sleep(0.02)


def _queue(store: Store, spec: RunSpec) -> float:
    started = time.perf_counter()
    store.create_sweep("bench", {}, [spec.with_(seed=seed) for seed in range(QUEUED_RUNS)])
    return time.perf_counter() - started


def _poll(store: Store, spec: RunSpec, rounds: int) -> tuple[float, list[float], list[float]]:
    run_ids = store.submit([spec.with_(steps=10_000, seed=seed) for seed in range(LIVE_RUNS)])
    for run_id in run_ids:
        reserve(store.database, lambda spec: "bench")
        claim(store.database, run_id, 1, (0, "bench", "bench"))

    sequence = [0]

    def more(first: int, number: int) -> None:
        steps = [
            Step(
                step=i,
                loss=1.0 / (i + 1),
                lr=1e-3,
                samples=64 * i,
                elapsed_s=round(i * 0.0123, 4),
                grad_norm=0.7071067811865476,
            )
            for i in range(first, first + number)
        ]
        looks = [
            Evaluated(
                step=i,
                metrics={EVAL_ACCURACY: i / 4000, EVAL_LOSS: 1.0},
                examples=300,
                samples=64 * i,
                elapsed_s=i * 0.0123,
            )
            for i in range(first, first + number, NEW_POINTS)
        ]
        batches = [Batch(run_id, 1, sequence[0], steps + looks) for run_id in run_ids]
        sequence[0] += len(steps) + len(looks)
        record_events(store.database, batches)

    more(0, POINTS)
    reader = Store(Path(store.home))
    cursors = dict.fromkeys(run_ids, (0, -1))
    started = time.perf_counter()
    cursors = reader.poll(cursors).cursors
    first_look = time.perf_counter() - started
    seconds = []
    for turn in range(max(rounds, 10)):
        more(POINTS + turn * NEW_POINTS, NEW_POINTS)
        started = time.perf_counter()
        answer = reader.poll(cursors)
        seconds.append(time.perf_counter() - started)
        cursors = answer.cursors
    reader.close()
    start = POINTS + max(rounds, 10) * NEW_POINTS
    return first_look, seconds, _page(Path(store.home), lambda i: more(start + i * NEW_POINTS, NEW_POINTS))


def _script() -> None:
    """One turn of the Fine-tune page's fragment, as the server does it; noted beside what it took."""
    import time

    import streamlit as st

    from app import data
    from app.finetune import live_panel

    live_panel.ensure_dispatcher = lambda store: False  # nobody works on these runs, and nobody should
    started = time.thread_time()
    live_panel._panel(data.store(), "all", True)
    st.session_state["took"] = time.thread_time() - started


def _page(home: Path, more: Callable[[int], None]) -> list[float]:
    """Seconds of processor time for each turn of the page; the first, which reads everything, is left out."""
    from streamlit.testing.v1 import AppTest

    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)  # no browser

    before, os.environ["CDKA_HOME"] = os.environ.get("CDKA_HOME"), str(home)
    try:
        page = AppTest.from_function(_script, default_timeout=60).run()
        seconds = []
        for i in range(PAGES):
            more(i)
            page.run()
            if page.exception:
                raise CdkaError(f"the page failed: {page.exception[0].value}")
            seconds.append(page.session_state["took"])
        return seconds
    finally:
        os.environ.pop("CDKA_HOME")
        if before is not None:
            os.environ["CDKA_HOME"] = before
