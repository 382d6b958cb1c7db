"""Every chapter downloads as a notebook that runs, and whose last cell computes the app's own answer."""

from __future__ import annotations

import ast
import contextlib
import io

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from app.learn import notebook
from app.learn.chapters import CHAPTERS

ALLOWED = {"numpy", "plotly", "cdka"}


def run(document):
    """The namespace after running the code cells one after the other; the last expression of each is evaluated."""
    names = {"__name__": "__main__"}
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell["source"], cell["id"], "exec"), names)
    return names


def settings(chapter, *, changed):
    values = {**chapter.defaults, "seed": 3 if changed else 0}
    if changed:
        for control in chapter.controls:
            if control.options and control.name not in ("r1", "r2"):
                values[control.name] = control.options[-2]
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
    NotebookClient(document, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(home)}}).execute()
    shown = [out["data"]["text/plain"] for out in document.cells[-1].outputs if out.output_type == "execute_result"]
    if chapter.number == 6:
        assert shown == [], "nothing is trained before the reader says so"
        return
    told = eval(shown[0], {"np": np})  # a number or a text as Python writes it
    assert told == chapter.ask(values["seed"], values).answer()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_runs_with_other_settings(chapter, home):
    values = settings(chapter, changed=True)
    if chapter.number == 6:
        values |= {"r1": 4, "r2": 4, "r": 1}
    names = run(notebook.build(chapter, values))
    assert names["answer"] == (chapter.ask(values["seed"], values).answer() if chapter.number < 6 else None)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_is_valid_and_needs_little(chapter):
    document = downloaded(chapter, settings(chapter, changed=False))
    for cell in document["cells"]:
        if cell["cell_type"] == "markdown":
            assert "[[" not in cell["source"]
            continue
        for node in ast.walk(ast.parse(cell["source"])):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.names[0].name if isinstance(node, ast.Import) else node.module
                assert module.split(".")[0] in ALLOWED


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
