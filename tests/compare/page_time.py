"""Server time of one interaction with Compare, 500 runs of 200 points: ``python tests/compare/page_time.py``.

A script, not a test: it prints the median and the slowest of several reruns per view, first visit aside. What is timed
is the whole script run on the server, from the widget's change to the last element sent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

HERE = Path(__file__).parent
MAIN = str(HERE.parents[1] / "app" / "main.py")
VIEWS = ("Curves", "Map", "Cost", "Differences", "Budget", "Settings", "Anatomy", "Examples", "Export")
LIMIT_MS = 300


def fill_store(runs: int, points: int) -> None:
    from compare_store import fill
    from compare_synthetic import grid

    from cdka.runs.store import Store

    seeds = 5
    specs = grid(r1=(1, 2, 4, 8, 16), r2=(1, 2, 4, 8, 16), r=(1, 2, 4, 8), seeds=seeds, steps=points)
    fill(Store(), "large", specs[:runs], points=points)


def rerun(at: AppTest, change) -> float:
    change(at)
    started = time.perf_counter()
    at.run()
    spent = time.perf_counter() - started
    assert not at.exception, at.exception[0].value
    return 1000 * spent


def hide(at: AppTest) -> None:
    box = next(box for box in at.multiselect if box.label == "Hide")
    box.set_value([] if box.value else box.options[:1])


def reread(at: AppTest) -> None:
    box = next(box for box in at.selectbox if box.label == "Read")
    box.set_value(box.options[0] if box.value == box.options[1] else box.options[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory(prefix="cdka-page-") as home:
        os.environ["CDKA_HOME"] = home
        fill_store(asked.runs, asked.points)
        at = AppTest.from_file(MAIN, default_timeout=300)
        at.run()
        at.switch_page("views/compare.py")
        print(f"{asked.runs} runs x {asked.points} points; milliseconds, median (slowest) of {asked.rounds}")
        print(f"{'view':12} {'first':>7} {'hide an arm':>16} {'read elsewhere':>16}")
        worst = 0.0
        for view in VIEWS:
            at.query_params["view"] = view
            first = rerun(at, lambda at: None)
            told = []
            for change in (hide, reread):
                spent = [rerun(at, change) for _ in range(asked.rounds)]
                worst = max(worst, statistics.median(spent))
                told.append(f"{statistics.median(spent):7.0f} ({max(spent):.0f})")
            print(f"{view:12} {first:7.0f} {told[0]:>16} {told[1]:>16}", flush=True)
        print(f"slowest median {worst:.0f} ms, limit {LIMIT_MS} ms")


if __name__ == "__main__":
    main()
