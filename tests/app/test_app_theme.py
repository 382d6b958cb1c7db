"""The settings beside main.py reach both ways of starting, and colours can be read."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app import theme

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
AS_STREAMLIT_RUN = """
from streamlit import config
config._main_script_path = "app/main.py"
options = config.get_config_options(force_reparse=True)
print(options["runner.postScriptGC"].value, options["theme.dark.backgroundColor"].value)
"""
AS_CDKA_STUDIO = """
import streamlit.web.server.starlette.starlette_server as server
class Nothing:
    def __init__(self, app): pass
    def run(self): pass
server.UvicornRunner = Nothing
from cdka.cli.main import main
main(["studio", "--no-browser", "--port", "8649"])
from streamlit import config
print(config.get_option("runner.postScriptGC"), config.get_option("theme.dark.backgroundColor"),
      config.get_option("server.address"))
"""


@pytest.mark.parametrize("code", [AS_STREAMLIT_RUN, AS_CDKA_STUDIO], ids=["streamlit run", "cdka studio"])
def test_theme_and_settings_are_found(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "CDKA_HOME": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = done.stdout.split()
    assert told[:2] == ["False", SETTINGS["theme"]["dark"]["backgroundColor"]]
    assert told[2:] in ([], ["127.0.0.1"]), "the loopback address unless told otherwise"


def luminance(code: str) -> float:
    channels = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def inks() -> list[tuple[str, str, str]]:
    """(name, light ink, dark ink) of every colour that text is set in."""
    css = (ROOT / "app" / "studio.css").read_text(encoding="utf-8")
    found = []
    for name in ("r1", "r2", "r", "lora", "lokr", "quiet", "bad"):
        start = css.index(f"--{name}: light-dark(") + len(f"--{name}: light-dark(")
        light, dark = css[start : css.index(")", start)].split(", ")
        found.append((name, light, dark))
    return found


@pytest.mark.parametrize(("name", "light", "dark"), inks(), ids=[name for name, *_ in inks()])
def test_every_ink_of_meaning_can_be_read_on_both_papers(name, light, dark):
    assert contrast(light, SETTINGS["theme"]["light"]["backgroundColor"]) >= 4.5
    assert contrast(dark, SETTINGS["theme"]["dark"]["backgroundColor"]) >= 4.5


@pytest.mark.parametrize("colour", [theme.R1, theme.R2, theme.R, theme.LORA, theme.LOKR])
def test_every_mark_of_meaning_stands_out_on_both_papers(colour):
    for paper in ("light", "dark"):
        assert contrast(colour, SETTINGS["theme"][paper]["backgroundColor"]) >= 2.7


def test_nothing_on_the_page_calls_another_host():
    for path in (ROOT / "app").rglob("*"):
        if path.suffix in (".py", ".css", ".toml", ".js"):
            text = path.read_text(encoding="utf-8")
            assert '":material/' not in text, f"{path.name}: material icons load a font from elsewhere"
            assert "@import" not in text


def test_the_studio_listens_to_this_machine_only_however_it_is_started():
    assert SETTINGS["server"]["address"] == "127.0.0.1"
