"""Docstrings begin with what is returned or done, as a fact, not with a question word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUESTION = re.compile(r"(What|How|Whether|Where|Which|Why|Who|Whose|When)\b")


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string that stands alone: docstrings, and the notes under constants and fields."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value.strip()


def test_the_reader_finds_notes_under_constants_too():
    tree = ast.parse('"""Module."""\nA = 1\n"""How much."""\ndef f():\n    """Where."""\n    return "What"\n')
    assert sorted(docstrings(tree)) == [(1, "Module."), (3, "How much."), (5, "Where.")]


@pytest.mark.parametrize("folder", ["cdka", "app", "tools"])
def test_no_docstring_opens_with_a_question_word(folder):
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            if QUESTION.match(text):
                found.append(f"{name}:{line}: {text.splitlines()[0]}")
    assert found == []
