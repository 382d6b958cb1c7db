"""Every chapter as a Jupyter notebook that stands alone: text, code, figures, a prediction, the reader's settings."""

from __future__ import annotations

import json
from typing import Any

from app.learn import prose, sources
from app.learn.course import Chapter, Values
from app.learn.markup import lines, to_markdown
from cdka import __version__

FIGURES = '''\
import numpy as np
import plotly.graph_objects as go


def heat(title, matrix):
    """A matrix as a picture, its first row on top."""
    most = float(np.abs(matrix).max())
    figure = go.Figure(go.Heatmap(z=matrix, zmin=-most, zmax=most, colorscale="RdBu_r"))
    return figure.update_layout(title=title, yaxis_autorange="reversed", height=360)


def lines(title, curves, log=False, dots=False):
    """Curves by name: values, or (x, y)."""
    figure = go.Figure()
    for name, values in curves.items():
        x, y = values if isinstance(values, tuple) else (np.arange(1, len(values) + 1), values)
        figure.add_scatter(x=list(x), y=list(y), name=str(name), mode="markers" if dots else "lines+markers")
    if log:
        figure.update_xaxes(type="log").update_yaxes(type="log")
    return figure.update_layout(title=title, height=360)


def bars(title, values, log=False):
    """Bars by name."""
    figure = go.Figure(go.Bar(x=list(map(str, values)), y=list(values.values())))
    return figure.update_yaxes(type="log" if log else "linear").update_layout(title=title, height=320)'''
"""Three small figures that the cells of every notebook use."""


def build(chapter: Chapter, values: Values) -> dict[str, Any]:
    """The notebook (format 4.5) as plain data. ``values`` are the settings, with ``seed``."""
    install = f"cdka-studio {__version__}: `pip install -e .` in a checkout of its repository"
    cells = [
        _markdown(f"# {chapter.number}. {chapter.prose.title}\n\n{chapter.prose.idea}\n\nNeeds {install}."),
        _code(chapter.setup),
        _code(FIGURES),
    ]
    for page in chapter.pages:
        parts = [f"## {page.title}", to_markdown(sources.marked(page))]
        if page.equation is not None:
            equation = (*lines(page.equation.letters), *lines(page.equation.numbers(values)))
            parts += [f"$${line}$$" for line in equation]
        detailed = [line for line in sources.legend(page) if not line.startswith("*") or line.startswith("**")]
        if detailed:
            parts.append("Sources:\n\n" + "\n".join(f"- {line}" for line in detailed))
        cells += [_markdown("\n\n".join(parts)), _code(page.code(values)), _code(page.plot(values))]
    cells.append(_markdown(_legend(chapter)))
    cells += _predict(chapter, values)
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "cells": cells,
    }


def to_json(chapter: Chapter, values: Values) -> str:
    """The notebook as the text of an ``.ipynb`` file."""
    return json.dumps(build(chapter, values), indent=1, ensure_ascii=False)


def _legend(chapter: Chapter) -> str:
    """The meaning of the marks, once for the chapter."""
    general = dict.fromkeys(
        line for page in chapter.pages for line in sources.legend(page) if line.startswith("*") and line[1] != "*"
    )
    return "## The marks\n\n" + "\n".join(f"- {line}" for line in general)


def _predict(chapter: Chapter, values: Values) -> list[dict[str, Any]]:
    """The question, a cell for the reader's guess, the answer with its explanation."""
    question = chapter.question(int(values["seed"]), values)
    prompt = to_markdown(prose.in_notebook(question.prompt).replace("**In the cell below:** ", ""))
    choices = "".join(f"\n- `{choice!r}`" for choice in question.choices)
    cells = [
        _markdown(f"## Predict\n\n{prompt}{choices}\n\nWrite your guess before you run the answer."),
        _code("guess = None  # your prediction"),
    ]
    if question.begin is not None:
        return [*cells, _code(question.code)]
    answer = question.answer()
    explanation = to_markdown(question.explain(answer))
    return [
        *cells,
        _markdown("The next cell computes the answer, and the one after it explains it."),
        _code(question.code),
        _code(
            f"from IPython.display import Markdown\n\nprint('your guess:', guess, ' computed:', answer)\n"
            f"Markdown({explanation!r})"
        ),
    ]


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": text.strip(), "outputs": [], "execution_count": None}
