"""One launch per click: a second click within moments starts nothing more."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

import streamlit as st

from cdka.runs.store import Store
from cdka.sweep.launch import launch
from cdka.sweep.plan import Plan

DOUBLE_CLICK_S = 3.0
"""The same request within this time is the same click; later it asks for more runs."""


@dataclass
class Launcher:
    """Starts plans, each request once. One per browser session; see ``launcher``."""

    _given: dict[str, tuple[str, float]] = field(default_factory=dict)

    def launch(self, store: Store, plan: Plan, request: str) -> str:
        """The id of the sweep; the same ``request`` again within three seconds of its launch gives the same sweep."""
        request_id, at = self._given.get(request, ("", float("-inf")))
        if time.monotonic() - at > DOUBLE_CLICK_S:
            request_id = f"studio-{uuid.uuid4().hex}"
        sweep_id = launch(plan, store, request_id=request_id)
        self._given[request] = (request_id, time.monotonic())
        return sweep_id


def launcher() -> Launcher:
    """The launcher of this browser session."""
    return st.session_state.setdefault("launcher", Launcher())
