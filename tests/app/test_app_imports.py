"""The server stays light: no torch, transformers, datasets or peft, in any room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "datasets", "peft")
PROBE = """
import sys
{first}
import cdka.engine.local
cdka.engine.local.warm = lambda store: False  # it would outlive the test
from streamlit.testing.v1 import AppTest
for room in {rooms}:
    app = AppTest.from_file("app/main.py", default_timeout=120)
    app.switch_page(f"views/{{room}}.py")
    app.run()
    assert not app.exception, (room, app.exception[0].message)
print(sorted(set(sys.modules) & set({heavy})))
"""


def imported(first: str, rooms: list[str]) -> str:
    code = PROBE.format(first=first, rooms=rooms, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_no_room_imports_torch_and_its_kin():
    rooms = sorted(path.stem for path in (ROOT / "app" / "views").glob("*.py") if path.stem != "__init__")
    assert {"design", "finetune"} <= set(rooms)
    assert imported("", rooms) == "[]"


def test_the_probe_can_fail():
    pytest.importorskip("datasets")
    assert imported("import datasets", []) != "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "views").glob("*.py")), ids=lambda p: p.stem)
def test_views_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
