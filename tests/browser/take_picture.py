"""Take the README's picture from a real Studio: ``python tests/browser/take_picture.py`` writes it to assets/images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import FLAGS, PATIENCE_MS, ROOT, _wait_healthy, free_port, settle
from playwright.sync_api import sync_playwright

PICTURE = ROOT / "assets" / "images" / "studio.png"
PAGE = "design?basket=2,8,1&basket=8,16,3"
SIZE = {"width": 1440, "height": 850}
MAX_BYTES = 400_000


def take(url: str, destination: Path) -> None:
    """Saves what the Design room shows once its map is drawn."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        page.goto(f"{url}/{PAGE}")
        page.wait_for_selector(".js-plotly-plot .point", timeout=PATIENCE_MS)
        settle(page)
        page.wait_for_timeout(2000)  # fonts and transitions
        page.screenshot(path=destination)
        browser.close()


def main() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        log = Path(home) / "studio.log"
        environment = {**os.environ, "CDKA_HOME": home, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "cdka", "studio", "--no-browser", "--port", str(port)]
        with log.open("wb") as output:
            server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_healthy(f"http://127.0.0.1:{port}", server, log)
            take(f"http://127.0.0.1:{port}", PICTURE)
        finally:
            server.terminate()
            server.wait()
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(ROOT)}: {size:,} bytes")
    if size > MAX_BYTES:
        sys.exit(f"the picture is to stay below {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
