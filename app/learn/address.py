"""The state of the course in the URL: chapter, page, seed, what a teacher hides, and every control by its key.

Widgets bound to the URL keep it themselves; what has no widget (matrices, ``hide``) is read and written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from app.learn.course import Chapter, Control, seed_control
from cdka.errors import CdkaError, unknown

HIDE = ("controls", "solution")
GLOSSARY = "glossary"
REMEMBERED = "learn_values"
"""The last value of each control in this session, for the pages that do not show it."""
LIVE = "learn_live"
"""What a drag that is still going on makes of a matrix, by the control's name."""
SEED = seed_control(0)
STASH = "learn_stash"
MATRICES = ("c1_B", "c1_A", "c1_x", "c1_pick")
"""What has no widget to keep it."""


def hidden(text: str | None) -> frozenset[str]:
    """What a teacher's link hides: some of HIDE, joined by commas. Raises CdkaError for anything else."""
    found = frozenset(part for part in (text or "").split(",") if part)
    for part in sorted(found - set(HIDE)):
        raise unknown("thing to hide", part, HIDE)
    return found


def read(controls: tuple[Control, ...], params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that a URL stands for, by key (absent where it is silent), and a line for each thing wrong."""
    values, notices = {}, []
    for control in controls:
        if control.key in params:
            try:
                values[control.key] = control.read(params[control.key])
            except CdkaError as refusal:
                notices.append(f"The address asked for something else: {refusal} Showing the default.")
    return values, notices


def known_values(chapter: Chapter) -> dict[str, Any]:
    """The settings of a chapter before its widgets are drawn: URL, else what this session used last, else default."""
    controls = (*chapter.controls, SEED)
    found, notices = read(controls, {key: st.query_params[key] for key in st.query_params})
    for notice in notices:
        st.warning(notice, icon=None)
    kept = st.session_state.setdefault(REMEMBERED, {})
    known = {c.name: found.get(c.key, kept.get(c.key, c.default)) for c in controls}
    live = st.session_state.get(LIVE, {})
    return {**known, **{name: value for name, value in live.items() if name in known}}


def remember(chapter: Chapter, values: Mapping[str, Any]) -> None:
    """Keep the settings for the pages of the session that show no widgets."""
    kept = st.session_state.setdefault(REMEMBERED, {})
    kept.update({c.key: values[c.name] for c in (*chapter.controls, SEED) if c.kind != "matrix"})


def leave(before: str, chapter: str) -> None:
    """Go from one chapter to another: edited matrices leave the URL with their chapter and come back with it."""
    stash = st.session_state.setdefault(STASH, {})
    stash[before] = {key: st.query_params.pop(key) for key in list(st.query_params) if key in MATRICES}
    for key, text in stash.pop(chapter, {}).items():
        st.query_params[key] = text
    st.query_params["chapter"] = chapter


def link(params: Mapping[str, str], hide: tuple[str, ...] = ()) -> str:
    """The query of a link to the present state that hides what a teacher wants hidden."""
    kept = {key: value for key, value in params.items() if key != "hide"}
    if hide:
        kept["hide"] = ",".join(hide)
    return "?" + urlencode(kept, safe=",;")
