"""A comparison's figures as files: HTML anywhere; PNG and SVG where a Chromium or Chrome is installed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from html import escape as html_text
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cdka import palette
from cdka.compare.comparison import Comparison
from cdka.compare.report import provenance
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
KINDS = ("html", *IMAGES)
WIDTH = 1100
_DRAW = """<!doctype html><meta charset="utf-8"><script>{plotly}</script><body style="font:13px sans-serif"><script>
Plotly.toImage({figure}, {{format: "{kind}", width: {width}, height: {height}, scale: {scale}}}).then({then})
</script>"""
_SHOW = """url => { document.body.innerHTML = ""; document.body.setAttribute("data-image", url); }"""
_SAVE = """url => {
  const link = document.createElement("a");
  link.href = url; link.download = "%s"; document.body.append(link); link.click();
  document.body.textContent = "Saved as " + link.download;
}"""


def browser() -> str | None:
    """The Chromium or Chrome on the path, None where there is none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def makers(
    comparison: Comparison, source: Source, shown: Sequence[str] | None = None
) -> dict[str, Callable[[], Figure]]:
    """What draws each figure that this comparison has something to show in, by file name; on a white ground, with the
    runs and seeds below. ``shown`` are the arms drawn, all by default.
    """
    from cdka.compare.figures.curves import curve_figure, factors_that_vary
    from cdka.compare.figures.heatmap import heatmap_figure
    from cdka.compare.figures.scatter import COSTS, SHARED, difference_figure, scatter_figure

    shown = comparison.arms["arm"].to_list() if shown is None else list(shown)
    curves = source.curves(comparison.frame["run_id"].to_list())
    varying = factors_that_vary(comparison.arms)
    facet = varying[0] if len(varying) > 1 else None
    found = {
        f"{metric}-curves": partial(curve_figure, curves, comparison, shown, y=metric, facet=facet)
        for metric in ("accuracy", "loss")
        if curves.loc[curves["kind"] == "eval", metric].notna().any()
    }
    for group in comparison.groups if len(varying) > 1 else ():
        own = [arm for arm in shown if arm in set(group.loc[group["method"] == "cdka", "arm"])]
        if not own:
            continue
        name = "map" if len(comparison.groups) == 1 else f"map-{group['model'].iloc[0]}-{group['task'].iloc[0]}"
        found[re.sub(r"[^\w-]+", "-", name)] = partial(heatmap_figure, comparison, own)
    for cost, name in zip(COSTS, ("front", "front-time", "front-memory"), strict=True):
        if cost in comparison.arms and (comparison.arms[cost].notna() & (comparison.arms["n"] > 0)).any():
            found[name] = partial(scatter_figure, comparison, shown, cost)
    if len(comparison.verdicts):
        found["differences"] = partial(difference_figure, comparison, shown)
    text = provenance(comparison, shown)
    shared = {"front-time": f"{text} {SHARED}", "front-memory": f"{text} {SHARED}"}
    return {name: partial(_made, make, shared.get(name, text)) for name, make in found.items()}


def _made(make: Callable[[], Figure], caption: str) -> Figure:
    return on_paper(make(), caption)


def on_paper(figure: Figure, caption: str) -> Figure:
    """``figure`` (drawn in the light look) on white, with ``caption`` below it."""
    lines = textwrap.wrap(caption, 165)
    figure.update_layout(
        paper_bgcolor=palette.WHITE,
        width=WIDTH,
        height=(figure.layout.height or 400) + 44 + 16 * len(lines),
        margin={"b": 64 + 16 * len(lines), "l": 24, "r": 24},
        title={"pad": {"l": 24}},
    )
    figure.add_annotation(
        text="<br>".join(map(html_text, lines)),
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-56,
        align="left",
        showarrow=False,
        font={"size": 11, "color": palette.LIGHT.quiet},
    )
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


def saving_page(figure: Figure, kind: str, name: str) -> str:
    """A page that draws the figure in whichever browser opens it and hands it over as the download ``name.kind``.

    Nothing is needed on this machine but Plotly itself.
    """
    return _page(figure, kind, _SAVE % f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}.{kind}")


def _page(figure: Figure, kind: str, then: str) -> str:
    from plotly.offline import get_plotlyjs

    if kind not in IMAGES:
        raise CdkaError(f"a figure is exported as {' or '.join(IMAGES)}: got {kind!r}.")
    data = figure.to_json()
    for character in "<>&":  # no name in the figure can end the script it stands in
        data = data.replace(character, f"\\u{ord(character):04x}")
    return _DRAW.format(
        plotly=get_plotlyjs(),
        figure=data,
        kind=kind,
        width=figure.layout.width or WIDTH,
        height=figure.layout.height or 560,
        scale=2 if kind == "png" else 1,
        then=then,
    )


def image(figure: Figure, kind: str, *, timeout_s: float = 60.0) -> bytes:
    """The figure as PNG (twice the pixels) or SVG, drawn by an installed Chromium or Chrome without any network.

    Raises CdkaError where there is no such browser or it fails.
    """
    page = _page(figure, kind, _SHOW)
    program = browser()
    if program is None:
        raise CdkaError(
            "PNG and SVG need Chromium or Chrome on the path: none was found. Use .html, or Save on the Compare page."
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "figure.html"
        source.write_text(page, encoding="utf-8")
        command = [
            program,
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder}/profile",
            "--virtual-time-budget=20000",
            "--dump-dom",
            source.as_uri(),
        ]
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
