"""The visual language on the page: the theme in use, and the style sheets that carry the palette's colours."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from cdka import palette
from cdka.palette import DIVERGING, Theme

R1, R2, R = palette.FACTORS["r1"], palette.FACTORS["r2"], palette.FACTORS["r"]
LORA, LOKR = palette.METHODS["lora"], palette.METHODS["lokr"]
COMPONENT_COLOURS = palette.FACTORS
VIRIDIS = palette.SEQUENTIAL
__all__ = ["COMPONENT_COLOURS", "DIVERGING", "LOKR", "LORA", "R1", "R2", "VIRIDIS", "R"]

_CSS = Path(__file__).with_name("studio.css")


def is_dark() -> bool:
    """True where the reader's browser shows the dark theme; light until it has said so."""
    return st.context.theme.type == "dark"


def current() -> Theme:
    """The palette's theme that the reader sees."""
    return palette.theme(is_dark())


def ink() -> str:
    """The text colour of the theme in use: what full fine-tuning is drawn in."""
    return current().ink


def letter(name: str) -> str:
    """The ink of r1, r2 or r as text (an axis title, say) on the theme in use."""
    return current().text(name)


def accent() -> str:
    """The neutral accent of the theme in use: what carries no meaning of its own."""
    return current().accent


def apply() -> None:
    """Put the style sheets on the page; call once per run."""
    sheet = palette.css_variables() + (palette.dark_css_variables() if is_dark() else "")
    st.html(f"<style>{sheet}{_CSS.read_text(encoding='utf-8')}</style>")
