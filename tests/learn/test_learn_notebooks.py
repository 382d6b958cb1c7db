"""Every chapter downloads as a notebook that runs, and whose last cell computes the app's own answer."""

from __future__ import annotations

import ast
import contextlib
import io
import json

import pytest

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


@pytest.mark.parametrize("changed", [False, True], ids=["as it comes", "changed"])
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_runs_and_answers(chapter, changed, home):
    values = settings(chapter, changed=changed)
    if chapter.number == 6:
        values |= {"r1": 4, "r2": 4, "r": 1}
    names = run(notebook.build(chapter, values))
    expected = chapter.ask(values["seed"], values).answer() if chapter.number < 6 else None
    assert names["answer"] == expected


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_a_notebook_is_valid_and_needs_little(chapter):
    document = json.loads(notebook.to_json(chapter, settings(chapter, changed=False)))
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.from_dict(document))
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
