"""The state of the course in the URL: chapter, page, seed, what a teacher hides, and every control by its key.

Widgets bound to the URL keep it themselves; what has no widget (page, matrices, ``hide``) is read and written here. The
page is never bound to a widget: so a step back in the browser brings address and page back together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from app import widgets
from app.learn.course import Chapter, Control, seed_control
from cdka.errors import CdkaError, unknown

HIDE = ("controls", "solution")
GLOSSARY, CLASS = "glossary", "class"
"""Pages beside the chapters in their row."""
REMEMBERED = "learn_values"
"""The last value of each control in this session, for the pages that do not show it."""
LIVE = "learn_live"
"""Matrices of an unfinished drag, by the control's name."""
SEED = seed_control(0)
STASH = "learn_stash"
AT = "learn_at"
"""The chapter and page that this session last went to by its own buttons."""
MATRICES = ("c1_B", "c1_A", "c1_x", "c1_pick")
"""The controls without a widget to keep them."""
PRESENT = "present"


def hidden(text: str | None) -> frozenset[str]:
    """The parts that a teacher's link hides: some of HIDE, joined by commas. Raises CdkaError for anything else."""
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
                notices.append(f"Part of this link could not be used: {refusal} Showing the default.")
    return values, notices


def known_values(chapter: Chapter) -> dict[str, Any]:
    """The settings of a chapter before its widgets are drawn: URL, else what this session used last, else default."""
    controls = (*chapter.controls, SEED)
    found, notices = read(controls, {key: st.query_params[key] for key in st.query_params})
    for notice in notices:
        st.warning(widgets.literal(notice), icon=None)
    kept = st.session_state.setdefault(REMEMBERED, {})
    known = {c.name: found.get(c.key, kept.get(c.key, c.default)) for c in controls}
    live = st.session_state.get(LIVE, {})
    return {**known, **{name: value for name, value in live.items() if name in known}}


def follow(chapter: Chapter, page: int) -> None:
    """Take the controls from the URL where the page was reached with Back, Forward or a pasted address.

    A bound widget would otherwise keep the session's value, and the address would say something else.
    """
    here = (chapter.number, page)
    before = st.session_state.get(AT)
    st.session_state[AT] = here
    if before in (None, here):
        return
    found, _ = read(chapter.controls, {key: st.query_params[key] for key in st.query_params})
    for control in chapter.controls:
        if control.kind not in ("matrix", "seed") and control.key in st.session_state:
            wanted = found.get(control.key, control.default)
            if st.session_state[control.key] != wanted:
                st.session_state[control.key] = wanted


def remember(chapter: Chapter, values: Mapping[str, Any]) -> None:
    """Keep the settings for the pages of the session that show no widgets."""
    kept = st.session_state.setdefault(REMEMBERED, {})
    kept.update({c.key: values[c.name] for c in (*chapter.controls, SEED) if c.kind != "matrix"})


def go(chapter: str, page: int) -> None:
    """Go to a page of a chapter: a new entry in the browser's history. Edited matrices leave the URL with their chapter
    and come back with it."""
    before = st.query_params.get("chapter", "1")
    changed = {"page": str(page)}
    if chapter != before:
        stash = st.session_state.setdefault(STASH, {})
        stash[before] = {key: st.query_params.pop(key) for key in list(st.query_params) if key in MATRICES}
        changed |= {**stash.pop(chapter, {}), "chapter": chapter}
    st.query_params.update(changed)
    if chapter.isdecimal():
        st.session_state[AT] = (int(chapter), page)


def link(params: Mapping[str, str], hide: tuple[str, ...] = (), **more: str) -> str:
    """The query of a link to the present state that hides what a teacher wants hidden; names of learners stay out."""
    kept = {key: value for key, value in params.items() if key not in ("hide", "learner")} | more
    if hide:
        kept["hide"] = ",".join(hide)
    return "?" + urlencode(kept, safe=",;")
