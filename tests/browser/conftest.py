"""A real Studio and a real Chromium, for the tests in this folder; skipped with a reason where there is no browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTLED = "html:not(.cdka-drawing) [data-testid=stApp][data-test-script-state=notRunning]"
PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Studio:
    """A running server: its address, the home of its runs, and what it printed."""

    url: str
    home: Path
    log: Path

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A browser; the tests that need it are skipped where playwright or Chromium is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The Studio on a free port with an empty home, started as users start it."""
    home, log = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("log") / "studio.log"
    server, url = _serve(home, log, free_port(), "--no-token")
    try:
        yield Studio(url, home, log)
    finally:
        server.terminate()
        server.wait(timeout=20)
        _stop_engine(home)


def _serve(home: Path, log: Path, port: int, *flags: str) -> tuple[subprocess.Popen, str]:
    """A Studio that answers, in a process group of its own."""
    command = [sys.executable, "-m", "cdka", "studio", "--no-browser", "--port", str(port), *flags]
    environment = {**os.environ, "CDKA_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    _wait_healthy(url, server, log)
    return server, url


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen, str]]]:
    """``serve(port, token=False)``: another Studio on the home ``tmp_path / "studio"``, ended after the test."""
    home, servers = tmp_path / "studio", []
    home.mkdir()

    def start(port: int | None = None, *, token: bool = False) -> tuple[subprocess.Popen, str]:
        flags = () if token else ("--no-token",)
        servers.append(_serve(home, tmp_path / f"studio-{len(servers)}.log", port or free_port(), *flags))
        return servers[-1]

    yield start
    for server, _ in servers:
        if server.poll() is None:
            server.kill()
        server.wait(timeout=20)
    _stop_engine(home)


def _wait_healthy(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail("the Studio did not start: " + log.read_text(encoding="utf-8", errors="replace")[-2000:])


def _stop_engine(home: Path) -> None:
    """End the detached engine of this home, which would otherwise wait for more work."""
    import psutil

    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if process.environ().get("CDKA_HOME") == str(home):
                process.terminate()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


@pytest.fixture
def visit(chromium, studio: Studio) -> Iterator[Callable[..., object]]:
    """``visit("design?r1=2", dark=True, width=800)``: a page of the Studio, settled; checks the log afterwards."""
    contexts = []

    def open_page(path: str = "", *, dark: bool = False, width: int = 1440, height: int = 900) -> object:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{studio.url}/{path}")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    printed = studio.printed()
    if "Traceback" in printed:
        pytest.fail("the server printed a traceback: " + printed[printed.index("Traceback") :][-3000:])


def settle(page) -> None:
    """Wait until the script has run and nothing is pending."""
    for _ in range(2):
        page.wait_for_timeout(250)
        page.wait_for_selector(SETTLED, timeout=PATIENCE_MS)


@pytest.fixture
def settled() -> Callable[[object], None]:
    """``settled(page)`` waits until the script has run and nothing is pending."""
    return settle


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[object, str], Path]:
    """Saves what the page shows; under ``CDKA_SCREENSHOTS`` where that is set, so that a person can look."""
    folder = Path(os.environ.get("CDKA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def save(page, name: str) -> Path:
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size > 10_000, "an empty picture"
        return path

    return save
