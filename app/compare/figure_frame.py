"""One figure of the Compare room: drawn in the page's theme, told about below, and saved as HTML, PNG or SVG."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import charts, theme, widgets
from cdka.compare.exports import figures
from cdka.palette import LIGHT, Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_CONFIG = charts.PLOTLY_CONFIG | {"toImageButtonOptions": {"format": "svg", "filename": "cdka-compare", "scale": 2}}


def draw(make: Callable[[Theme], Figure], name: str, alt: str, *, caption: str, source: str, **more: Any) -> Any:
    """Draws ``make``'s figure with its caption and a way to save it; returns the reader's selection.

    ``source`` tells the runs and seeds: it ends the caption, and stands below the saved figure.
    """
    event = st.plotly_chart(
        make(theme.current()), key=f"compare-{name}", theme=None, config=_CONFIG, alt=alt, width="stretch", **more
    )
    told, saved = st.columns([5.4, 1], gap="small")
    with told:
        widgets.caption(f"{caption} {source}".strip())
    with saved, st.popover("Save", key=f"save-{name}", width="stretch", help="This figure as HTML, PNG or SVG"):
        save(lambda: figures.on_paper(make(LIGHT), source), name)
    return event


def save(on_paper: Callable[[], Figure], name: str, *, width: str = "stretch") -> None:
    """The buttons that save a figure, drawn only when one is pressed."""
    st.download_button(
        "HTML", lambda: figures.html(on_paper()), f"{name}.html", on_click="ignore", width=width, key=f"html-{name}"
    )
    for kind in figures.IMAGES:
        if st.button(kind.upper(), width=width, key=f"{kind}-{name}"):
            # the reader's own browser draws it: nothing else is needed, online or off
            st.iframe(figures.saving_page(on_paper(), kind, name), height=40, alt=f"Saving {name}.{kind}")


def pure(function: Callable[..., Figure], *arguments: Any, **settings: Any) -> Callable[[Theme], Figure]:
    """``function`` with everything but its theme."""
    made = partial(function, *arguments, **settings)
    return lambda colours: made(theme=colours)
