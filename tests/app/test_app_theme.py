"""The settings beside main.py reach both ways of starting, and colours can be read."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cdka import palette

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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_streamlits_own_theme_takes_its_colours_from_the_palette(dark):
    colours, given = palette.theme(dark), SETTINGS["theme"]["dark" if dark else "light"]
    assert given == {
        "primaryColor": colours.primary,
        "backgroundColor": colours.paper,
        "secondaryBackgroundColor": colours.panel,
        "textColor": colours.ink,
        "borderColor": colours.border,
        "linkColor": colours.link,
        "dataframeHeaderBackgroundColor": colours.panel,
    }
    assert SETTINGS["theme"]["chartCategoricalColors"] == list(palette.SERIES)
    assert SETTINGS["theme"]["chartSequentialColors"] == list(reversed(palette.SEQUENTIAL))


def test_the_style_sheet_uses_no_variable_that_the_palette_lacks():
    known = set(re.findall(r"--([\w-]+):", palette.css_variables()))
    for sheet in (ROOT / "app").rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        own = set(re.findall(r"--([\w-]+)\s*:", text))
        used = {name for name in re.findall(r"var\(--([\w-]+)", text) if not name.startswith("st-")}  # Streamlit's own
        given = {"w", "tint"}  # by the style of an element
        assert used <= known | own | given, (sheet.name, used - known - own)


def test_nothing_on_the_page_calls_another_host():
    for path in (ROOT / "app").rglob("*"):
        if path.suffix in (".py", ".css", ".toml", ".js"):
            text = path.read_text(encoding="utf-8")
            assert '":material/' not in text, f"{path.name}: material icons load a font from elsewhere"
            assert "@import" not in text


def test_the_studio_listens_to_this_machine_only_however_it_is_started():
    assert SETTINGS["server"]["address"] == "127.0.0.1"
