"""The visual language: colours that mean one thing everywhere, and the style sheet that carries them."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import streamlit as st

R1, R2, R = "#D55E00", "#0072B2", "#009E73"
"""Okabe-Ito vermillion, blue and bluish green: r1, r2 and r in formulas, sliders, blocks, axes and headers."""

LORA, LOKR, DORA = "#7A7F87", "#CC79A7", "#A0825A"
INK_LIGHT, INK_DARK = "#1D232B", "#E4E8EC"

COMPONENT_COLOURS = MappingProxyType({"r1": R1, "r2": R2, "r": R})

VIRIDIS = ("#433E85", "#38588C", "#2D708E", "#25858E", "#1E9B8A", "#2AB07F", "#52C569", "#86D549", "#C2DF23", "#FDE725")
"""Sequential, low to high."""
DIVERGING = ("#2166AC", "#67A9CF", "#D1E5F0", "#F2F2F0", "#FDDBC7", "#EF8A62", "#B2182B")
"""Diverging, centred on zero: below is blue, above is red."""

_CSS = Path(__file__).with_name("studio.css")
_DARK_CSS = Path(__file__).with_name("studio-dark.css")

_LETTERS = MappingProxyType({"r1": ("#B34E00", "#FF9147"), "r2": ("#00659E", "#5DB5EE"), "r": ("#007A59", "#3CCB9E")})
"""r1, r2 and r as text, on the light and on the dark page; the same as in the style sheet."""


def is_dark() -> bool:
    """Whether the reader's browser shows the dark theme (light until it has told us)."""
    return st.context.theme.type == "dark"


def ink() -> str:
    """The text colour of the theme in use: what full fine-tuning is drawn in."""
    return INK_DARK if is_dark() else INK_LIGHT


def letter(name: str) -> str:
    """The ink of r1, r2 or r as text (an axis title, say) on the theme in use."""
    return _LETTERS[name][is_dark()]


def accent() -> str:
    """The neutral accent of the theme in use: what carries no meaning of its own."""
    return "#A9BCD0" if is_dark() else "#33475B"


def apply() -> None:
    """Put the style sheets on the page; call once per run."""
    st.html(_CSS)
    if is_dark():
        st.html(_DARK_CSS)
