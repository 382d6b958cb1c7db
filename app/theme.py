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
_SYSTEM = st.components.v2.component(
    "cdka_system_theme",
    js="""export default function ({ setStateValue, setTriggerValue }) {
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 640px)");
  const tell = () => setTimeout(() => setTriggerValue("changed", dark.matches), 200); // the app learns of it first
  const turn = () => setStateValue("narrow", narrow.matches);
  dark.addEventListener("change", tell);
  narrow.addEventListener("change", turn);
  return () => { dark.removeEventListener("change", tell); narrow.removeEventListener("change", turn); };
}""",
)
"""Runs the page again when the reader's system changes its theme, or the window becomes a phone's width or wider:
figures are drawn in colours, and in panels, of the server."""
_KEY = "system-theme-change"
NARROW_COOKIE = "cdka-narrow"
"""The cookie of ``shown_once_drawn.html``: 1 where the window has a phone's width; it is there before the first run."""


def is_dark() -> bool:
    """True where the reader's browser shows the dark theme; light until it has said so."""
    return st.context.theme.type == "dark"


def is_narrow() -> bool:
    """True where the reader's window has a phone's width: panels of a figure stand below one another there."""
    reported = (st.session_state.get(_KEY) or {}).get("narrow")
    return bool(reported) if reported is not None else st.context.cookies.get(NARROW_COOKIE) == "1"


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
    st.html(f"<style>{palette.css_variables()}{_CSS.read_text(encoding='utf-8')}</style>")


def follow_system() -> None:
    """Listen to the reader's system, at the end of the page, where it moves nothing."""
    with st.container(key="system-theme"):
        _SYSTEM(key=_KEY, on_changed_change=lambda: None, on_narrow_change=lambda: None)
