"""The Studio's entry point: `cdka studio`, or `streamlit run app/main.py`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import state, theme, widgets

VIEWS = Path(__file__).resolve().parent / "views"
ROOMS = (  # in the order of a first visit: understand, choose, check, train, scale up, judge
    ("learn", "Learn"),
    ("design", "Design"),
    ("align", "Align"),
    ("finetune", "Fine-tune"),
    ("sweeps", "Sweeps"),
    ("compare", "Compare"),
)


def main() -> None:
    st.logo(widgets.favicon(), size="medium")
    theme.apply()
    start = st.Page(VIEWS / "start.py", title="Start", default=True)
    rooms = [st.Page(VIEWS / f"{stem}.py", title=title, url_path=stem) for stem, title in ROOMS]
    page = st.navigation([start, *rooms], position="top")
    title = "CDKA Studio" if page == start else f"{page.title} · CDKA Studio"
    st.set_page_config(page_title=title, page_icon=widgets.favicon(), layout="wide")
    with widgets.errors_shown():
        page.run()
        state.remember()
        theme.follow_system()


main()
