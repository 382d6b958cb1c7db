"""Every chapter as a Jupyter notebook that stands alone: text, code, figures, a prediction, the reader's settings."""

from __future__ import annotations

from typing import Any

from app.learn import prose, sources
from app.learn.course import Chapter, Values
from app.learn.markup import lines, to_markdown
from cdka import __version__
from cdka.compare.exports.script import ipynb, notebook_document

FIGURES = "from cdka.notebook.display import bars, heat, lines"
"""Three small figures that the cells of every notebook use."""


def cells(chapter: Chapter, values: Values) -> list[tuple[str, str]]:
    """The cells, each as (``markdown`` or ``code``, text). ``values`` are the settings, with ``seed``."""
    install = f"cdka-studio {__version__}: `pip install -e .` in a checkout of its repository"
    found = [
        ("markdown", f"# {chapter.number}. {chapter.prose.title}\n\n{chapter.prose.idea}\n\nNeeds {install}."),
        ("code", chapter.setup),
        ("code", FIGURES),
    ]
    for page in chapter.pages:
        parts = [f"## {page.title}", to_markdown(sources.marked(page))]
        if page.equation is not None:
            equation = (*lines(page.equation.letters), *lines(page.equation.numbers(values)))
            parts += [f"$${line}$$" for line in equation]
        detailed = [line for line in sources.legend(page) if not line.startswith("*") or line.startswith("**")]
        if detailed:
            parts.append("Sources:\n\n" + "\n".join(f"- {line}" for line in detailed))
        found += [("markdown", "\n\n".join(parts)), ("code", page.code(values)), ("code", page.plot(values))]
    return [*found, ("markdown", _legend(chapter)), *_predict(chapter, values)]


def build(chapter: Chapter, values: Values) -> dict[str, Any]:
    """The notebook (format 4.5) as plain data."""
    return notebook_document(cells(chapter, values))


def to_json(chapter: Chapter, values: Values) -> str:
    """The notebook as the text of an ``.ipynb`` file."""
    return ipynb(cells(chapter, values))


def _legend(chapter: Chapter) -> str:
    """The meaning of the marks, once for the chapter."""
    general = dict.fromkeys(
        line for page in chapter.pages for line in sources.legend(page) if line.startswith("*") and line[1] != "*"
    )
    return "## The marks\n\n" + "\n".join(f"- {line}" for line in general)


def _predict(chapter: Chapter, values: Values) -> list[tuple[str, str]]:
    """The question, a cell for the reader's guess, the answer with its explanation."""
    question = chapter.question(int(values["seed"]), values)
    prompt = to_markdown(prose.in_notebook(question.prompt).replace("**In the cell below:** ", ""))
    choices = "".join(f"\n- `{choice!r}`" for choice in question.choices)
    asked = [
        ("markdown", f"## Predict\n\n{prompt}{choices}\n\nWrite your guess before you run the answer."),
        ("code", "guess = None  # your prediction"),
    ]
    if question.begin is not None:
        return [*asked, ("code", question.code)]
    answer = question.answer()
    explanation = to_markdown(question.explain(answer))
    return [
        *asked,
        ("markdown", "The next cell computes the answer, and the one after it explains it."),
        ("code", question.code),
        (
            "code",
            f"from IPython.display import Markdown\n\nprint('your guess:', guess, ' computed:', answer)\n"
            f"Markdown({explanation!r})",
        ),
    ]
