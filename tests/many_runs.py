"""Stores with many runs, for tests; and how long things take with them: ``python tests/many_runs.py --runs 2000``.

What is timed of a page is the whole script on the server, first and again, from the change to the last element sent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

SPEC = RunSpec("digits-vit", "digits-flip", components="2,8,4")


def fill(store: Store, number: int, per_sweep: int = 20) -> None:
    """Finished runs in sweeps, each with events, written as fast as SQLite takes them."""
    for k in range(number // per_sweep):
        specs = [SPEC.with_(seed=i, lr=1e-3 * (1 + k % 7)) for i in range(per_sweep)]
        store.create_sweep(f"sweep {k}", {"kind": "grid"}, specs)
    metrics = json.dumps({"test/accuracy": 0.5, "test/loss": 1.0, "training_s": 4.0, "steps_done": 100})
    with store.database.write() as sql:
        sql.execute(
            "UPDATE runs SET status = 'done', attempt = 1, step = 100, num_params = 1234, metrics = ?, worked_s = 5",
            (metrics,),
        )
        sql.execute(
            "INSERT INTO events SELECT n, 1, value, 'step', 0, json_object('kind', 'step', 'step', value + 1,"
            " 'train/loss', 1.0, 'samples', 64, 'elapsed_s', 0.1)"
            " FROM runs, (SELECT 0 AS value UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4)"
        )


def _processor_s() -> float:
    return sum(os.times()[:4])


def seconds(act: Callable[[], object], times: int = 5) -> list[tuple[float, float]]:
    """The seconds that ``act`` took each time: passed, and of the processor, children's too."""
    found = []
    for _ in range(times):
        started, used = time.perf_counter(), _processor_s()
        act()
        found.append((time.perf_counter() - started, _processor_s() - used))
    return found


def told(name: str, found: list[tuple[float, float]], limit_s: float) -> None:
    """Print the medians and the slowest, beside the limit."""
    passed, used = ([pair[i] for pair in found] for i in range(2))
    numbers = f"{statistics.median(passed):7.3f} {max(passed):7.3f} {statistics.median(used):11.2f}"
    print(f"{name:36} {numbers}   limit {limit_s:g}", flush=True)


def time_pages() -> None:
    """Print the seconds of Compare and Fine-tune, each in a fresh session."""
    from streamlit.testing.v1 import AppTest

    main = str(Path(__file__).parents[1] / "app" / "main.py")
    for view, query in (
        ("compare", {}),
        ("finetune", {}),
        ("finetune", {"show": "all"}),
        ("sweeps", {"part": "Your sweeps"}),
    ):
        at = AppTest.from_file(main, default_timeout=300)
        at.run()
        at.switch_page(f"views/{view}.py")
        for name, value in query.items():
            at.query_params[name] = value
        first, again = seconds(at.run, 1), seconds(at.run, 7)
        assert not at.exception, at.exception[0].value
        words = " ".join([view, *query.values()])
        told(f"{words}, first", first, 1.5 if view == "compare" else 1.0)
        told(f"{words}, again", again, 0.2)


def main() -> None:
    """Fill a home of its own, and print how long the usual questions take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--per-sweep", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cdka-many-") as home:
        os.environ["CDKA_HOME"] = home
        store = Store(home)
        fill(store, asked.runs, asked.per_sweep)
        print(f"{asked.runs:,} runs in sweeps of {asked.per_sweep}; seconds: median, slowest, and of the processor")
        command = [sys.executable, "-m", "cdka", "runs"]
        told("cdka runs, a process of its own", seconds(lambda: subprocess.run(command, capture_output=True)), 0.5)
        told("search for a word", seconds(lambda: store.count(text="no-such-text")), 0.2)
        ids = [f"r-none{i}" for i in range(251_000)]
        told("runs by 251,000 ids", seconds(lambda: store.runs(ids=ids), 2), 5.0)
        time_pages()
        waiting = store.submit([SPEC.with_(seed=i) for i in range(500)])
        told("cancel 500 runs", seconds(lambda: store.request_stops(waiting, keep=False), 1), 1.0)


if __name__ == "__main__":
    main()
