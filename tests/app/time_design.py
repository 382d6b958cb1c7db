"""Server time of one interaction in the Design room for a 70B model: ``python tests/app/time_design.py``.

Through Streamlit's test runner, without a browser: the median and the longest of a few reruns, by wall clock and by
processor time, for each budget. The first line of a budget also solves it.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).resolve().parents[2] / "app"
MODEL = "llama-3.1-70b"
BUDGETS = ("lora:8", "lora:64", "1%", "5%", "50%", "68451041280")
ROUNDS = 7


def report(label: str, change: Callable[[int], AppTest], rounds: int = ROUNDS) -> None:
    """Print the times of ``rounds`` changes of one widget."""
    walls, works = [], []
    for i in range(rounds):
        widget = change(i)
        wall, work = time.perf_counter(), time.process_time()
        app = widget.run()
        walls.append(1e3 * (time.perf_counter() - wall))
        works.append(1e3 * (time.process_time() - work))
        assert not app.exception, app.exception[0].message
    print(
        f"{label:24} {statistics.median(walls):6.0f} ms median, {max(walls):6.0f} ms longest; processor "
        f"{statistics.median(works):6.0f} ms median, {max(works):6.0f} ms longest"
    )


def main() -> None:
    logging.disable(logging.WARNING)
    app = AppTest.from_file(str(APP / "main.py"), default_timeout=60).run()
    app.switch_page(str(APP / "views" / "design.py")).run()
    app.selectbox(key="model").set_value(MODEL).run()
    for budget in BUDGETS:
        report(f"{budget}: budget set", lambda i, b=budget: app.text_input(key="budget").set_value(b), 1)
        report(f"{budget}: r stepped", lambda i: app.number_input(key="r").set_value(1 + i))
        report(f"{budget}: r1 stepped", lambda i: app.number_input(key="r1").set_value((1, 2, 4, 8)[i % 4]))


if __name__ == "__main__":
    main()
