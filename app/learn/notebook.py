"""Every chapter as a Jupyter notebook: its text, and the code that makes its numbers, with the learner's settings."""

from __future__ import annotations

import json
from typing import Any

from app.learn import sources
from app.learn.course import Chapter, Values
from app.learn.markup import in_lines, to_latex, to_markdown


def build(chapter: Chapter, values: Values) -> dict[str, Any]:
    """The notebook (format 4.5) as plain data. ``values`` are the settings, with ``seed``."""
    cells = [
        _markdown(f"# {chapter.number}. {chapter.title}\n\n{chapter.idea}\n\nNeeds `pip install cdka-studio`."),
        _code(chapter.setup),
    ]
    for page in chapter.pages:
        parts = [f"## {page.title}", to_markdown(sources.marked(page))]
        if page.equation is not None:
            parts.append(
                f"$${to_latex(in_lines(page.equation.letters))}$$\n\n$${to_latex(in_lines(page.equation.numbers(values)))}$$"
            )
        parts.append("Sources:\n\n" + "\n".join(f"- {line}" for line in sources.legend(page)))
        cells += [_markdown("\n\n".join(parts)), _code(page.code(values))]
    question = chapter.ask(int(values["seed"]), values)
    cells += [_markdown(f"## Predict\n\n{to_markdown(question.prompt)}"), _code(question.code)]
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


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": text.strip(), "outputs": [], "execution_count": None}
