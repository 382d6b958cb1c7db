"""The base of all results: text in a terminal, HTML in a notebook, a table, plain data; and three small figures.

Imports neither IPython nor, until one is drawn, Plotly.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cdka.components import Components
from cdka.formatting import METHOD_NAMES
from cdka.palette import DARK, DIVERGING, FACTORS, LIGHT, Theme
from cdka.terminal import numeric_columns, table_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from plotly.graph_objects import Figure

MAX_ROWS = 12
"""Rows of a table that are drawn; ``frame()`` holds them all."""
_DARK_PAGES = (
    '[data-jp-theme-light="false"]',  # JupyterLab and Notebook 7
    "body.vscode-dark",
    "body.vscode-high-contrast",
    'html[theme="dark"]',  # Colab
    "body.dark",  # marimo
)

_CONFIGURATION = re.compile(
    r"\b(?P<method>lora|lokr|dora) (?P<rank>\d+)\b"
    r"|\b(?P<lead>take |cdka )(?P<values>\d+,\d+,\d+)(?![,\d])"
    r"|\br1 (?P<r1>\d+) · r2 (?P<r2>\d+) · r (?P<r>\d+)"
)


class Result:
    """The result of a verb. Subclasses give ``lines`` of text around one ``table``, ``frame`` and ``to_dict``."""

    def lines(self) -> list[str]:
        """The sentences above the table."""
        return []

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """(header, rows) of the table that is drawn."""
        return [], []

    def notes(self) -> list[str]:
        """The sentences below the table."""
        return []

    def frame(self) -> pd.DataFrame:
        """The table, all of it, as a pandas DataFrame."""
        import pandas as pd

        header, rows = self.table()
        return pd.DataFrame(rows, columns=header)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        raise NotImplementedError

    def __repr__(self) -> str:
        header, rows = self.table()
        parts = [*self.lines()]
        if rows:
            parts.append(table_text(header, rows[:MAX_ROWS]))
        return "\n".join([*parts, *_more(rows), *self.notes()])

    def _repr_html_(self) -> str:
        return page(self.html())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Every form at once: whoever shows it takes the richest that it knows."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def html(self) -> str:
        """The lines, the table and the notes as HTML."""
        header, rows = self.table()
        told = [f"<p>{chips(line)}</p>" for line in self.lines()]
        drawn = [table_html(header, rows[:MAX_ROWS])] if rows else []
        quiet = [f'<p class="q">{html.escape(line)}</p>' for line in [*_more(rows), *self.notes()]]
        return "".join([*told, *drawn, *quiet])


def _more(rows: Sequence[Any]) -> list[str]:
    return [f"{len(rows) - MAX_ROWS:,} more: .frame() holds them all."] if len(rows) > MAX_ROWS else []


def table_html(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as HTML: numbers to the right, configurations as chips, everything escaped."""
    body = [["" if cell is None else str(cell) for cell in row] for row in rows]
    right = [' class="n"' if numeric else "" for numeric in numeric_columns(header, body)]
    heads = "".join(
        f"<th{place}>{_letter(name)}</th>" for name, place in zip(header, right, strict=True)
    )  # r1, r2 and r in their colours, as everywhere
    lines = (
        "<tr>" + "".join(f"<td{place}>{chips(cell)}</td>" for cell, place in zip(row, right, strict=True)) + "</tr>"
        for row in body
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _letter(name: str) -> str:
    return letter_html(name) if name in FACTORS else html.escape(name)


def hover_attribute(text: str) -> str:
    """The attribute that shows ``text`` when one points at an element; nothing for an empty text."""
    return f' title="{html.escape(text, quote=True)}"' if text else ""


def letter_html(name: str) -> str:
    """r1, r2 or r as a letter in its colour."""
    return f'<span class="cdka-letter {name}">{name}</span>'


def chip_html(components: Components | tuple[int, int, int] | str, hover: str = "") -> str:
    """A configuration as it looks everywhere: ``r1 2 · r2 8 · r 4`` in the three colours."""
    return _chip_of(Components.parse(components).as_tuple(), hover)


def _chip_of(values: Sequence[int | str], hover: str = "") -> str:
    letters = " · ".join(
        f'<span class="{name}"><i>{name}</i> {value}</span>' for name, value in zip(FACTORS, values, strict=True)
    )
    return f'<span class="cdka-chip"{hover_attribute(hover)}>{letters}</span>'


def baseline_chip_html(method: str, rank: int | None, hover: str = "") -> str:
    """The chip of a method without components: ``LoRA 8``, ``full fine-tuning``."""
    name = METHOD_NAMES[method] + ("" if rank is None else f" {rank}")
    return f'<span class="cdka-chip"{hover_attribute(hover)}><span class="{method}">{name}</span></span>'


def chips(text: str) -> str:
    """Text as HTML, escaped; every configuration in it (``cdka 2,8,4``, ``lora 8``) becomes a chip."""
    return _CONFIGURATION.sub(_chip, html.escape(text))


def _chip(match: re.Match[str]) -> str:
    if match["method"]:
        return baseline_chip_html(match["method"], int(match["rank"]))
    chip = _chip_of(match["values"].split(",") if match["values"] else [match[name] for name in FACTORS])
    return f"take {chip}" if match["lead"] == "take " else chip


def page(body: str) -> str:
    """``body`` with the style that it needs, readable on light and on dark paper."""
    return f'{_style()}<div class="cdka-out">{body}</div>'


@lru_cache(maxsize=1)
def _style() -> str:
    dark = ",".join(f"{place} .cdka-out" for place in _DARK_PAGES)
    return (
        "<style>"
        f".cdka-out{{{_variables(LIGHT)}font-size:13px;line-height:1.45;max-width:1100px;overflow-x:auto}}"
        f"{dark}{{{_variables(DARK)}}}"
        ".cdka-out p{margin:.35em 0}"
        ".cdka-out .q{color:var(--c-quiet)!important}"
        ".cdka-out table{border-collapse:collapse;margin:.4em 0;border:0;color:var(--c-ink)!important}"
        ".cdka-out th,.cdka-out td{padding:2px 10px;text-align:left!important;border:0;border-bottom:1px solid "
        "var(--c-hair)!important;background:none!important;white-space:nowrap}"
        ".cdka-out th.n,.cdka-out td.n{text-align:right!important;font-variant-numeric:tabular-nums}"
        ".cdka-out th{font-weight:600;color:var(--c-quiet)!important}"
        ".cdka-out .r1{color:var(--c-r1)}.cdka-out .r2{color:var(--c-r2)}.cdka-out .r{color:var(--c-r)}"
        ".cdka-out .lora,.cdka-out .dora{color:var(--c-lora)}.cdka-out .lokr{color:var(--c-lokr)}"
        ".cdka-out .cdka-chip{border:1px solid var(--c-hair);border-radius:9px;padding:0 7px;white-space:nowrap;"
        "font-weight:600}"
        ".cdka-out .cdka-chip i{font-style:normal;font-weight:400}"
        ".cdka-out .bad{color:var(--c-bad)}"
        ".cdka-out progress{width:220px;vertical-align:middle;accent-color:var(--c-r2)}"
        "</style>"
    )


def _variables(theme: Theme) -> str:
    return (
        f"--c-ink:{theme.ink};--c-quiet:{theme.quiet};--c-hair:{theme.hair};--c-bad:{theme.bad};"
        f"--c-r1:{theme.r1};--c-r2:{theme.r2};--c-r:{theme.r};--c-lora:{theme.lora};--c-lokr:{theme.lokr};"
        f"color:{theme.ink};"
    )


def in_notebook() -> bool:
    """True inside a kernel whose output is drawn, as in Jupyter, VS Code and Colab."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def figure_theme(theme: str | None) -> Theme:
    """The colours of a figure: ``light``, ``dark``, or where None as Plotly's default template is."""
    if theme is None:
        plotly = sys.modules.get("plotly.io")
        theme = "dark" if plotly is not None and "dark" in str(plotly.templates.default) else "light"
    from cdka.errors import unknown

    if theme not in ("light", "dark"):
        raise unknown("theme", theme, ("light", "dark"))
    return DARK if theme == "dark" else LIGHT


def on_its_paper(figure: Figure, theme: Theme) -> Figure:
    """The Plotly figure on the paper that its ink is made for: a notebook's own may be of the other kind."""
    return figure.update_layout(paper_bgcolor=theme.paper, plot_bgcolor=theme.paper)


def heat(title: str, matrix: np.ndarray) -> Figure:
    """A matrix as a picture on a scale centred on zero, its first row on top."""
    import numpy as np
    import plotly.graph_objects as go

    most = float(np.abs(matrix).max())
    cells = go.Heatmap(z=matrix, zmin=-most, zmax=most, colorscale=list(DIVERGING))
    return go.Figure(cells).update_layout(title=title, yaxis_autorange="reversed", height=360)


def lines(title: str, curves: Mapping[str, Any], log: bool = False, dots: bool = False) -> Figure:
    """Curves by name, each its values (at 1, 2, 3, ...) or (x, y); ``dots`` joins none, ``log`` scales both axes."""
    import numpy as np
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, values in curves.items():
        x, y = values if isinstance(values, tuple) else (np.arange(1, len(values) + 1), values)
        figure.add_scatter(x=list(x), y=list(y), name=str(name), mode="markers" if dots else "lines+markers")
    if log:
        figure.update_xaxes(type="log").update_yaxes(type="log")
    return figure.update_layout(title=title, height=360)


def bars(title: str, values: Mapping[Any, float], log: bool = False) -> Figure:
    """Bars by name; ``log`` scales the values."""
    import plotly.graph_objects as go

    figure = go.Figure(go.Bar(x=list(map(str, values)), y=list(values.values())))
    return figure.update_yaxes(type="log" if log else "linear").update_layout(title=title, height=320)
