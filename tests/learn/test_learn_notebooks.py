"""Every chapter downloads as a notebook that stands alone: it runs, has figures, asks first, computes the answer."""

from __future__ import annotations

import ast
import contextlib
import io
import re

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from nbclient import NotebookClient

from app.learn import notebook
from app.learn.chapters import CHAPTERS

ALLOWED = {"numpy", "plotly", "cdka", "re", "json", "IPython"}
OF_THE_SCREEN = re.compile(
    r"\b(drag|slider|click|button|hover|press play|page \d|this page|the frame|dashed frames|green band|light up|"
    r"beside|move the|move `|sliders|toggle|go back|covered|the bar with|above and below|choose a study)\b",
    re.IGNORECASE,
)
"""Words that mean something on the screen of the Studio only."""


def run(document):
    """The namespace after running the code cells one after the other, with every figure that a cell ended in."""
    names = {"__name__": "__main__", "figures": []}
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse(cell["source"])
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(tree, cell["id"], "exec"), names)
                value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names) if last else None
            if isinstance(value, go.Figure):
                names["figures"].append(value)
    return names


def settings(chapter, *, changed):
    values = {**chapter.defaults, "seed": 3 if changed else 0}
    if changed:
        for control in chapter.controls:
            if control.options and control.name not in ("r1", "r2", "study"):
                values[control.name] = control.options[-2] if len(control.options) > 1 else control.options[0]
    return values


def downloaded(chapter, values):
    """The notebook as a reader opens it: from the text of the file, checked against the format."""
    document = nbformat.reads(notebook.to_json(chapter, values), as_version=4)
    nbformat.validate(document)
    return document


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_downloaded_notebook_runs_in_jupyter_and_answers(chapter, home):
    values = settings(chapter, changed=False)
    document = downloaded(chapter, values)
    NotebookClient(document, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(home)}}).execute()
    question = chapter.question(values["seed"], values)
    (cell,) = (cell for cell in document.cells if cell["source"] == question.code.strip())
    shown = [out["data"]["text/plain"] for out in cell.outputs if out.output_type == "execute_result"]
    if question.begin is not None:
        assert shown == [], "nothing is trained before the reader says so"
        return
    assert eval(shown[0], {"np": np}) == question.answer()
    explained = [out for out in document.cells[-1].outputs if out.output_type == "execute_result"]
    assert "text/markdown" in explained[0]["data"]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_runs_with_other_settings_and_has_a_figure_for_every_page(chapter, home):
    values = settings(chapter, changed=True)
    if chapter.number == 6:
        values |= {"r1": 4, "r2": 8, "r": 1}
    names = run(notebook.build(chapter, values))
    question = chapter.question(values["seed"], values)
    assert names["answer"] == (None if question.begin else question.answer())
    assert len(names["figures"]) == len(chapter.pages)
    assert all(figure.data for figure in names["figures"])


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_is_valid_and_needs_little(chapter):
    document = downloaded(chapter, settings(chapter, changed=False))
    for cell in document["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.search(r"\[\[[^\]]+\]\]", cell["source"]), "a link to the glossary"
            assert "{{" not in cell["source"]
            continue
        for node in ast.walk(ast.parse(cell["source"])):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.names[0].name if isinstance(node, ast.Import) else node.module
                assert module.split(".")[0] in ALLOWED


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_speaks_of_nothing_on_the_screen_and_asks_before_it_answers(chapter):
    cells = notebook.build(chapter, settings(chapter, changed=False))["cells"]
    texts = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    assert [OF_THE_SCREEN.findall(text) for text in texts if OF_THE_SCREEN.search(text)] == []
    assert not any("****" in text or re.search(r"\*\*\w[^*]*\*\*r\d?\*\*", text) for text in texts), "nested bold"
    sources = [cell["source"] for cell in cells]
    guess = next(i for i, source in enumerate(sources) if source.startswith("guess = None"))
    assert all("answer =" not in source for source in sources[:guess])


def test_the_words_of_the_screen_would_be_found():
    assert OF_THE_SCREEN.search("**Drag any number** and watch") is not None
    assert OF_THE_SCREEN.search("Move the sliders") is not None


@pytest.mark.slow
@pytest.mark.parametrize("number", [5, 6])
def test_the_real_runs_of_a_notebook(number, home):
    chapter = CHAPTERS[number - 1]
    document = notebook.build(chapter, settings(chapter, changed=False))
    for cell in document["cells"]:
        cell["source"] = cell["source"].replace("TRAIN = False", "TRAIN = True")
    names = run(document)
    frame = names["store"].frame(names["run_ids"])
    assert set(frame["status"]) == {"done"}
