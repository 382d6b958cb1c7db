"""Tables: plain and aligned where they are piped, within the width of a terminal where there is one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from cdka.terminal import print_table


def on_a_terminal(code: str, columns: int) -> str:
    """The output of a program whose standard output is a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait(60) == 0, parts
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(parts).decode())


def test_a_piped_table_is_aligned_text(capsys):
    print_table(["name", "count"], [["a", "1,000"], ["bc", "7"], ["d", None]])
    assert capsys.readouterr().out == "name  count\na     1,000\nbc        7\nd\n"


def test_a_table_on_a_terminal_stays_within_its_width_and_loses_nothing():
    text = "word " * 40
    code = f"from cdka.terminal import print_table; print_table(['n', 'text'], [[1, {text!r}], ['[b]', 'x']])"
    shown = on_a_terminal(code, 60)
    assert max(map(len, shown.splitlines())) <= 60
    assert shown.count("word") == 40
    assert "[b]" in shown  # names are never read as markup


@pytest.mark.parametrize("columns", [80, 200])
def test_the_models_fit_the_terminal(columns):
    shown = on_a_terminal("import sys; from cdka.cli.main import main; sys.exit(main(['models']))", columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "digits-vit" in shown
