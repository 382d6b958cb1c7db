"""The settings of the forms, kept over a visit to another room, a reload of the page and a restart of the Studio.

Within a browser session Streamlit holds them. For the next session they lie in one small file in the home of all state,
with a set for each computer that visits: what a class does on its own machines does not fill in the teacher's forms.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import streamlit as st

from cdka.paths import home_dir, write_atomically

FILE_NAME = "forms.json"
MAX_KEPT = 600
"""Values kept for each computer, the newest ones."""
_KEYS, _SAVED, _RESTORED = "form-keys", "form-saved", "form-restored"
_LOCK = threading.Lock()


def kept(key: str) -> dict[str, Any]:
    """The arguments of a widget that keeps its value: give it no other key."""
    keep(key)
    return {"key": key, "persist_state": "session"}


def keep(key: str) -> None:
    """Keep a value of the session state that no widget shows."""
    st.session_state.setdefault(_KEYS, {})[key] = True


def restore() -> None:
    """Give a new session the values that the last one had: once a session, before any widget is drawn."""
    if st.session_state.get(_RESTORED):
        return
    st.session_state[_RESTORED] = True
    for key, value in _read().get("values", {}).items():
        keep(key)
        st.session_state.setdefault(key, value)


def address() -> dict[str, Any]:
    """The properties in the address of the last session, by name."""
    return dict(_read().get("address", {}))


def save(names: list[str]) -> None:
    """Write the values that have changed, and those of the properties ``names`` that widgets of this session hold."""
    now = {
        "values": {key: st.session_state[key] for key in st.session_state.get(_KEYS, {}) if key in st.session_state},
        "address": {name: st.session_state[name] for name in names if name in st.session_state},
    }
    last = st.session_state.get(_SAVED, {})
    news = {
        part: {key: value for key, value in held.items() if _is_plain(value) and last.get(part, {}).get(key) != value}
        for part, held in now.items()
    }
    if any(news.values()):
        _write(news)
        st.session_state[_SAVED] = now


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _visitor() -> str:
    """The visitor's computer by its address; this one has none."""
    address = st.context.ip_address
    return address if isinstance(address, str) else ""


def _everybody() -> dict[str, Any]:
    try:
        document = json.loads((home_dir() / FILE_NAME).read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else {}
    except (OSError, ValueError):
        return {}  # a damaged file costs a few clicks, never the room


def _read() -> dict[str, Any]:
    found = _everybody().get(_visitor(), {})
    return found if isinstance(found, dict) else {}


def _write(news: dict[str, dict[str, Any]]) -> None:
    with _LOCK:
        everybody = _everybody()
        mine = everybody.get(_visitor(), {})
        for part, values in news.items():
            older = {key: value for key, value in mine.get(part, {}).items() if key not in values}
            mine[part] = dict(list({**older, **values}.items())[-MAX_KEPT:])
        everybody[_visitor()] = mine
        try:
            write_atomically(home_dir() / FILE_NAME, json.dumps(everybody))
        except OSError:
            return  # a full disk costs a few clicks, never the room
