"""What tests of the Studio share: the app as Streamlit's test runner sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"


@pytest.fixture(autouse=True)
def cold(monkeypatch):
    """No engine is kept warm for a test: it would outlive it."""
    monkeypatch.setattr("cdka.engine.local.warm", lambda store: False)


@pytest.fixture
def room() -> Callable[..., object]:
    """``room("design", r1="3")``: the app in one room with these values in the URL, run once, free of exceptions."""
    from streamlit.testing.v1 import AppTest

    def enter(name: str, **query: str | list[str]):
        app = AppTest.from_file(str(MAIN), default_timeout=60)
        for key, value in query.items():
            app.query_params[key] = value
        app.switch_page(f"views/{name}.py")
        app.run()
        assert not app.exception, app.exception[0].message
        return app

    return enter
