"""What a run to be ordered again had beside the knobs on the form: kept, shown, and handed on with the order."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import widgets

_KEY = "tune-extras"


def keep(run_id: str, model: str, task: str, settings: dict[str, Any]) -> None:
    """Hand ``settings`` on with orders of this model and task; from a callback."""
    st.session_state[_KEY] = {"of": (model, task), "run": run_id, "settings": settings}


def ask(model: str, task: str) -> dict[str, Any]:
    """The kept settings for an order of this model and task, told to the reader, who may drop them."""
    kept = st.session_state.get(_KEY)
    if not kept or kept["of"] != (model, task) or not kept["settings"]:
        return {}
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in kept["settings"].items())
    widgets.remark(f"As in {kept['run']}: {told}")
    if st.button("Drop these", key="tune-drop", type="tertiary", on_click=_drop):
        return {}
    return dict(kept["settings"])


def _drop() -> None:
    st.session_state.pop(_KEY, None)
