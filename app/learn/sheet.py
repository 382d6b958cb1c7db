"""A printable sheet per chapter: ideas, formulas and three questions, with the solutions on a sheet of their own."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert
from markdown_it import MarkdownIt

from app.learn import prose, sources
from app.learn.course import Chapter, Question, Values
from app.learn.markup import lines, to_plain

QUESTIONS = (0, 1, 2)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$", re.S)
_MARKDOWN = MarkdownIt("commonmark", {"html": True})
STYLE = """
@page { size: A4; margin: 18mm }
body { font: 11.5pt/1.5 Georgia, serif; color: #111; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7em; margin: 0 } h2 { font-size: 1.15em; margin: 1.3em 0 .2em } section { break-inside: avoid }
.formula { margin: .4em 0 .6em 1.5em } .answer { border-bottom: 1px solid #999; height: 2.2em; margin: .4em 0 1.1em }
.quiet { color: #555; font-size: .9em } ol > li { margin-bottom: .8em } .choices { columns: 2 }
"""


def build(chapter: Chapter, values: Values, *, solutions: bool) -> str:
    """The sheet, or its solutions, as an HTML page that needs nothing else."""
    asked = [chapter.question(seed, values) for seed in QUESTIONS]
    title = f"{chapter.number}. {chapter.prose.title}"
    parts = [f"<h1>{html.escape(title)}{': solutions' if solutions else ''}</h1>", _html(chapter.prose.idea)]
    if not solutions:
        parts.append('<p class="quiet">Name:</p>')
        parts += [
            f"<section><h2>{html.escape(page.title)}</h2>{_html(prose.idea_of(page.text))}"
            + (f'<div class="formula">{_formula(page.equation.letters)}</div>' if page.equation else "")
            + "</section>"
            for page in chapter.pages
        ]
        parts.append("<h2>Predict</h2>")
    items = "".join(f"<li>{_solution(q) if solutions else _question(q)}</li>" for q in asked)
    parts.append(f"<ol>{items}</ol>")
    parts.append('<p class="quiet">CDKA Studio, Learn. The same questions stand in the app as numbers 0, 1 and 2.</p>')
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _question(question: Question) -> str:
    """The prompt, with the matrices of the question where it has some, and room for the answer."""
    shown = _html(prose.in_notebook(question.prompt).replace("**In the cell below:** ", ""))
    given = question.draw if isinstance(question.draw, dict) else {}
    maths = "".join(f"<p>{name} = {_matrix(given[name])}</p>" for name in ("B", "A") if name in given)
    if question.choices:
        choices = "".join(f"<li>{html.escape(choice)}</li>" for choice in question.choices)
        return f'{shown}{maths}<ul class="choices">{choices}</ul>'
    return f'{shown}{maths}<div class="answer"></div>'


def _solution(question: Question) -> str:
    answer = question.answer()
    if answer is None:
        return "<p>Real runs decide: make the prediction in the app.</p>"
    shown = html.escape(answer if isinstance(answer, str) else f"{answer:g} {question.unit}".strip())
    return f"<p><b>{shown}</b></p>{_html(question.explain(answer))}"


def _matrix(rows) -> str:
    body = r" \\ ".join(" & ".join(f"{value:g}" for value in row) for row in rows)
    return convert(rf"\begin{{bmatrix}}{body}\end{{bmatrix}}")


def _formula(latex: str) -> str:
    """A formula as MathML, its lines one beneath the other."""
    return "<br>".join(convert(line.replace(r"\\[-2pt]", r"\\")) for line in lines(latex))


def _html(text: str) -> str:
    """Our Markdown as HTML, mathematics as MathML."""
    maths: list[str] = []

    def keep(match: re.Match[str]) -> str:
        maths.append(convert(match[1] or match[2]))
        return f"\ue000{len(maths) - 1}\ue001"

    plain = _MATHS.sub(keep, to_plain(sources.plain(text)))
    return re.sub("\ue000(\\d+)\ue001", lambda match: maths[int(match[1])], _MARKDOWN.render(plain))
