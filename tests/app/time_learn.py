"""Server time of one change in each chapter of the course: ``python tests/app/time_learn.py``.

Through Streamlit's test runner, without a browser: the median and the longest of a few changes of one control, in
seconds by wall clock, on the page where it moves the figure. No value is set twice. The processor time beside it
does not depend on what else the machine does.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).resolve().parents[2] / "app"
KINDS = ("select_slider", "button_group", "number_input", "selectbox")
CHANGES = (
    (1, 6, "c1_size", (64, 16, 1024)),
    (1, 4, "c1_fold2", (1, 4, 8)),
    (2, 3, "c2_r1", (2, 4, 8, 16)),
    (2, 5, "c2_u1", (1, 4, 8)),
    (3, 2, "c3_r1", (1, 4, 8, 16)),
    (4, 1, "c4_r2", (1, 2, 4, 16)),
    (4, 2, "c4_added", (2, 3, 4)),
    (4, 3, "c4_p2", (1, 2, 8)),
    (4, 7, "c4_r2", (1, 2, 4, 16)),
    (5, 2, "seed", (11, 12, 13, 14, 15)),
    (5, 3, "seed", (11, 12, 13, 14, 15)),
    (6, 2, "c6_r2", (1, 2, 4)),
    (7, 1, "c7_ratio", ("1/4", "1", "8")),
)
"""Chapter, page, key of the control, values."""


def seconds(chapter: int, page: int, key: str, values: tuple) -> list[tuple[float, float]]:
    """(wall time, processor time) of the rerun that follows each change."""
    app = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    app.query_params["chapter"], app.query_params["page"] = str(chapter), str(page)
    app.switch_page(str(APP / "views" / "learn.py")).run()
    took = []
    for value in values:
        widgets = {w.key: w for kind in KINDS for w in app.get(kind)}
        widgets[key].set_value(value)
        started, used = time.perf_counter(), time.process_time()
        app.run()
        took.append((time.perf_counter() - started, time.process_time() - used))
        assert not app.exception, app.exception[0].message
    return took


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as home:
        os.environ["CDKA_HOME"] = home
        for change in CHANGES:
            wall, used = zip(*seconds(*change), strict=True)
            where = f"chapter {change[0]}, page {change[1]}, {change[2]}"
            print(
                f"{where}: {statistics.median(wall):.3f} s median, {max(wall):.3f} s longest; "
                f"processor {statistics.median(used):.3f} s median, {max(used):.3f} s longest"
            )


if __name__ == "__main__":
    main()
