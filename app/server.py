"""Start the Studio's server from Python: what ``cdka studio`` calls."""

from __future__ import annotations

import sys
from pathlib import Path

ENTRY = Path(__file__).resolve().parent / "main.py"


def launch(host: str = "127.0.0.1", port: int = 8501, *, browser: bool = True) -> None:
    """Serve the Studio until it is stopped. The theme comes from ``.streamlit/config.toml`` beside ``main.py``."""
    import streamlit as st

    sys.argv = [str(ENTRY)]  # Streamlit looks for config.toml beside argv[0]; from `cdka` it would miss the theme
    st.App(ENTRY).run(
        config={
            "server.address": host,
            "server.port": port,
            "server.headless": not browser,
            "server.fileWatcherType": "none",
        }
    )
