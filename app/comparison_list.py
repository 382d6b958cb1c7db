"""The configurations to compare: one list, kept in the URL and carried from Design to Fine-tune."""

from __future__ import annotations

import streamlit as st

from app import configurations, state, widgets

KEY = "basket"


def contents() -> list[str]:
    """The entries now in the basket."""
    return list(st.session_state.get(KEY, state.default(KEY)))


def add(*entries: str) -> None:
    """Put entries into the basket; what is there already stays once."""
    st.session_state[KEY] = list(dict.fromkeys([*contents(), *entries]))


def remove(*entries: str) -> None:
    """Take entries out of the basket."""
    st.session_state[KEY] = [entry for entry in contents() if entry not in entries]


def fine_tune(model: str) -> None:
    """Leave for Fine-tune with everything here, on this model and the modules chosen in Design, by the same rule."""
    modules = tuple(st.session_state.get("modules") or state.default("modules"))
    rule = st.session_state.get("indivisible") or state.default("indivisible")
    valid, _ = configurations.split_valid(contents())
    state.go("finetune", basket=tuple(valid), on=model, modules=modules, indivisible=rule)


def widget(label: str = "To compare") -> list[str]:
    """The list as a field: remove with a click, type another; returns its entries.

    What stands for no configuration never becomes a chip: it is taken out again, and the refusal stands at the field.
    """
    shown = contents()
    chosen = st.multiselect(
        label,
        options=shown,
        default=None if KEY in st.session_state else state.default(KEY),
        accept_new_options=True,
        filter_mode="prefix",  # Enter adds what was typed
        select_all=False,
        placeholder="type 2,8,4 or lora 8 or full",
        format_func=configurations.label,
        **state.bound(KEY),
        on_change=_take_out_refused,
        help="Everything here is trained with the same task, steps and seeds. Carried between Design and Fine-tune.",
    )
    for refusal in st.session_state.get("basket-refusals", ()):
        widgets.error(refusal)
    return chosen


def _take_out_refused() -> None:
    valid, st.session_state["basket-refusals"] = configurations.split_valid(st.session_state[KEY])
    st.session_state[KEY] = valid
