"""The Studio's entry point: `cdka studio`, or `streamlit run app/main.py`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import theme, widgets

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
    st.set_page_config(page_title="CDKA Studio", page_icon=widgets.favicon(), layout="wide")
    st.logo(widgets.favicon(), size="medium")
    theme.apply()
    rooms = [st.Page(VIEWS / f"{stem}.py", title=title, url_path=stem) for stem, title in ROOMS]

    def home() -> None:  # Streamlit gives the default page no address of its own, and every room should have one
        st.switch_page(rooms[0])

    page = st.navigation([st.Page(home, default=True, visibility="hidden"), *rooms], position="top")
    with widgets.errors_shown():
        page.run()


main()
