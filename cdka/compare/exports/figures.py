"""A comparison's figures as files: HTML anywhere; PNG and SVG where a Chromium or Chrome is installed."""

from __future__ import annotations

import base64
import gzip
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from html import escape as html_text
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka import palette
from cdka.compare.comparison import STOPPED_AT, Comparison
from cdka.compare.report import provenance
from cdka.compare.source import Source
from cdka.errors import CdkaError
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, measure_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

IMAGES = ("png", "svg")
KINDS = ("html", *IMAGES)
WIDTH = 1100
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font:13px sans-serif"><div id="figure"></div><script id="plotly" type="text/plain">{plotly}</script>
<script>
(async () => {{
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), c => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  (0, eval)(await new Response(unpacked).text());
  const figure = {figure};
  {task}
}})().catch(error => {{
  document.getElementById("figure").textContent = "This browser cannot draw the figure: " + error;
}});
</script></html>"""
"""A page that draws ``figure`` offline, in any browser since 2023. Plotly's package holds its whole library alone (its
parts are published elsewhere): packed, that is 2 MB of text, where it would be 4.8."""
_SHOW = 'await Plotly.newPlot("figure", figure.data, figure.layout, {displaylogo: false});'
_SAVE = """const form = {{format: "{kind}", width: {width}, height: {height}, scale: {scale}}};
  const url = await Plotly.toImage(figure, form);
  const link = document.createElement("a");
  link.href = url; link.download = "{name}"; document.body.append(link); link.click();
  document.body.textContent = "Saved as " + link.download;"""


def makers(
    comparison: Comparison, source: Source, shown: Sequence[str] | None = None
) -> dict[str, Callable[..., Figure]]:
    """Functions that draw each figure of this comparison which has content, by file name, with the runs and seeds
    below; on a white ground, or on that of a ``theme``. ``shown`` are the arms drawn, all by default.
    """
    from cdka.compare.figures.curves import curve_figure, factors_that_vary
    from cdka.compare.figures.heatmap import heatmap_figure
    from cdka.compare.figures.scatter import COSTS, difference_figure, scatter_figure
    from cdka.compare.report import SHARED

    shown = comparison.arms["arm"].to_list() if shown is None else list(shown)
    curves = source.curves(comparison.frame["run_id"].to_list())
    varying = factors_that_vary(comparison.arms)
    facet = varying[0] if len(varying) > 1 else None
    found = {
        f"{measure_of(metric)}-curves": partial(curve_figure, curves, comparison, shown, y=metric, facet=facet)
        for metric in (EVAL_ACCURACY, EVAL_LOSS)
        if curves[metric].notna().any()
    }
    for group in comparison.groups if len(varying) > 1 else ():
        own = [arm for arm in shown if arm in set(group.loc[group["method"] == "cdka", "arm"])]
        if not own:
            continue
        name = "map" if comparison.num_places == 1 else f"map-{group['model'].iloc[0]}-{group['task'].iloc[0]}"
        if STOPPED_AT in group and group[STOPPED_AT].iloc[0]:
            name += f"-step-{group[STOPPED_AT].iloc[0]}"
        found[re.sub(r"[^\w-]+", "-", name)] = partial(heatmap_figure, comparison, own)
    for cost, name in zip(COSTS, ("front", "front-time", "front-memory"), strict=True):
        if cost in comparison.arms and (comparison.arms[cost].notna() & (comparison.arms["n"] > 0)).any():
            found[name] = partial(scatter_figure, comparison, shown, cost)
    if len(comparison.verdicts):
        found["differences"] = partial(difference_figure, comparison, shown)
    text = provenance(comparison, shown)
    shared = {"front-time": f"{text} {SHARED}", "front-memory": f"{text} {SHARED}"}
    return {name: partial(_made, make, shared.get(name, text)) for name, make in found.items()}


def _made(make: Callable[..., Figure], caption: str, theme: palette.Theme = palette.LIGHT) -> Figure:
    return on_paper(make(theme=theme), caption, theme)


def on_paper(figure: Figure, caption: str, theme: palette.Theme = palette.LIGHT) -> Figure:
    """``figure``, drawn in the look of ``theme``, on its ground (white if it is light) with ``caption`` below it."""
    lines = textwrap.wrap(caption, 165)
    figure.update_layout(
        paper_bgcolor=theme.paper if theme.dark else palette.WHITE,
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
        font={"size": 11, "color": theme.quiet},
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
    """The figure as one HTML file that works offline (about 2 MB: it holds all of Plotly, packed)."""
    return _page(figure, _SHOW).encode()


def saving_page(figure: Figure, kind: str, name: str) -> str:
    """A page that draws the figure in whichever browser opens it and hands it over as the download ``name.kind``.

    Nothing is needed on this machine but Plotly itself.
    """
    stem = re.sub(r"[^\w-]+", "-", name).strip("-")  # letters of any script stay
    return _page(figure, _SAVE.format(name=f"{stem}.{kind}", **_format(figure, kind)))


def _page(figure: Figure, task: str) -> str:
    data = figure.to_json()
    for character in "<>&":  # no name in the figure can end the script it stands in
        data = data.replace(character, f"\\u{ord(character):04x}")
    title = html_text(re.sub("<[^>]*>", "", figure.layout.title.text or "Figure"))
    return _PAGE.format(title=title, plotly=_packed_plotly(), figure=data, task=task)


@lru_cache(maxsize=1)
def _packed_plotly() -> str:
    """The browser's part of Plotly, packed by gzip and written in base64."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _format(figure: Figure, kind: str) -> dict[str, Any]:
    """The kind and size of an image; PNG has twice the pixels. Raises CdkaError for another kind."""
    if kind not in IMAGES:
        raise CdkaError(f"a figure is exported as {' or '.join(IMAGES)}: got {kind!r}.")
    return {
        "kind": kind,
        "width": figure.layout.width or WIDTH,
        "height": figure.layout.height or 560,
        "scale": 2 if kind == "png" else 1,
    }


def image(figure: Figure, kind: str, *, timeout_s: float = 60.0) -> bytes:
    """The figure as PNG (twice the pixels) or SVG, drawn by kaleido in an installed Chromium or Chrome, offline.

    Raises CdkaError where there is no such browser or it fails.
    """
    import kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError, KaleidoError

    options = _format(figure, kind)
    options["format"] = options.pop("kind")
    page = kaleido.PageGenerator(mathjax=False)  # MathJax would be fetched from the network
    try:
        return kaleido.calc_fig_sync(
            figure.to_plotly_json(), opts=options, kopts={"timeout": timeout_s, "page_generator": page}
        )
    except ChromeNotFoundError:
        raise CdkaError(
            "PNG and SVG need Chromium or Chrome on the path: none was found. Use .html, or Save on the Compare page."
        ) from None
    except TimeoutError:
        raise CdkaError(f"the browser did not draw the figure within {timeout_s:g} s. Use HTML.") from None
    except (BrowserClosedError, BrowserFailedError, KaleidoError) as error:
        raise CdkaError(f"the browser could not draw the figure ({type(error).__name__}). Use HTML.") from error
