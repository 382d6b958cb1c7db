"""What every test shares: no network, a home of its own, one thread."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from ledger import LEDGER


@pytest.fixture(scope="session")
def model_shapes(tmp_path_factory):
    """Shapes read from a config.json, kept under its digest: building them takes a process with torch."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, model_shapes):
    """A fresh CDKA_HOME for every test, so that none can touch the user's runs."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "models").symlink_to(model_shapes)
    monkeypatch.setenv("CDKA_HOME", str(folder))
    return folder


def pytest_terminal_summary(terminalreporter):
    LEDGER.write(terminalreporter)
