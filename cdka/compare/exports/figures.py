"""A comparison's figures as files: HTML anywhere; PNG and SVG where a Chromium or Chrome is installed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
IMAGES = ("png", "svg")
_PAGE = """<!doctype html><meta charset="utf-8"><script>{plotly}</script><body><script>
Plotly.toImage({figure}, {{format: "{kind}", width: {width}, height: {height}, scale: {scale}}})
  .then(url => {{ document.body.innerHTML = ""; document.body.setAttribute("data-image", url); }})
</script>"""


def browser() -> str | None:
    """The Chromium or Chrome on the path, None where there is none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def makers(comparison: Comparison, source: Source) -> dict[str, Callable[[], Figure]]:
    """What draws each figure that this comparison has something to show in, by file name. On a white ground."""
    from cdka.compare.figures.curves import curve_figure, factors_that_vary
    from cdka.compare.figures.heatmap import heatmap_figure
    from cdka.compare.figures.scatter import difference_figure, scatter_figure

    shown = comparison.arms["arm"].to_list()
    curves = source.curves(comparison.frame["run_id"].to_list())
    found = {
        f"{metric}-curves": partial(curve_figure, curves, comparison, shown, y=metric)
        for metric in ("accuracy", "loss")
        if (curves["kind"] == "eval").any() and curves.loc[curves["kind"] == "eval", metric].notna().any()
    }
    if len(factors_that_vary(comparison.arms)) > 1:
        found["map"] = partial(heatmap_figure, comparison, shown)
    if (comparison.arms["n"] > 0).any():
        found["front"] = partial(scatter_figure, comparison, shown)
    if len(comparison.verdicts):
        found["differences"] = partial(difference_figure, comparison, shown)
    return {name: partial(_on_paper, make) for name, make in found.items()}


def _on_paper(make: Callable[[], Figure]) -> Figure:
    figure = make()
    figure.update_layout(paper_bgcolor="#FDFDFB")
    return figure


def file(make: Callable[[], Figure], kind: str) -> bytes:
    """The figure that ``make`` draws as html, png or svg."""
    return html(make()) if kind == "html" else image(make(), kind)


def write_figures(folder: Path, comparison: Comparison, source: Source) -> None:
    """All figures as HTML that works offline, sharing one copy of plotly.min.js."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in makers(comparison, source).items():
        make().write_html(folder / f"{name}.html", include_plotlyjs="directory", full_html=True)


def html(figure: Figure) -> bytes:
    """The figure as one HTML file that works offline (about 5 MB: it holds all of Plotly)."""
    return figure.to_html(include_plotlyjs=True, full_html=True).encode()


def image(figure: Figure, kind: str, *, width: int = 1100, height: int = 560, timeout_s: float = 60.0) -> bytes:
    """The figure as PNG (twice the pixels) or SVG, drawn by an installed Chromium or Chrome without any network.

    Raises CdkaError where there is no such browser or it fails.
    """
    from plotly.offline import get_plotlyjs

    if kind not in IMAGES:
        raise CdkaError(f"a figure is exported as {' or '.join(IMAGES)}: got {kind!r}.")
    program = browser()
    if program is None:
        raise CdkaError(
            "PNG and SVG need Chromium or Chrome: none was found. Use HTML, or the camera above the figure."
        )
    page = _PAGE.format(
        plotly=get_plotlyjs(), figure=figure.to_json().replace("</", "<\\/"), kind=kind, width=width, height=height,
        scale=2 if kind == "png" else 1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "figure.html"
        source.write_text(page, encoding="utf-8")
        command = [
            program, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}/profile",
            "--virtual-time-budget=20000", "--dump-dom", source.as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium refuses to start as root otherwise; the page is our own
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise CdkaError(f"{Path(program).name} did not draw the figure within {timeout_s:g} s. Use HTML.") from None
    found = re.search(r'data-image="data:image/[\w+]+(;base64)?,([^"]*)"', done.stdout)
    if found is None:
        raise CdkaError(f"{Path(program).name} could not draw the figure (exit {done.returncode}). Use HTML.")
    return base64.b64decode(found[2]) if found[1] else unquote(found[2].replace("&amp;", "&")).encode()
