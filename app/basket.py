"""What is to be compared: short entries that are typed, ticked, kept in the URL and carried from Design to Fine-tune.

An entry is ``2,8,4`` (components), ``lora 8``, ``lokr 4``, ``dora 8`` or ``full``: a run's label without the word cdka.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import state
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.spec import METHODS

KEY = "basket"
EXAMPLE = "Examples: 2,8,4 or lora 8 or full."
_RANKED = tuple(method for method in METHODS if method not in ("cdka", "full"))


def settings(entry: str) -> dict[str, Any]:
    """The run settings that an entry stands for: method with components or rank. Raises CdkaError for anything else."""
    words = entry.lower().removeprefix("cdka").split()
    if words == ["full"]:
        return {"method": "full"}
    if len(words) == 2 and words[0] in _RANKED:
        if not words[1].isdigit() or int(words[1]) < 1:
            raise CdkaError(f"the rank of {words[0]} must be a positive integer: got {words[1]!r}. {EXAMPLE}")
        return {"method": words[0], "rank": int(words[1])}
    if "," in entry:
        return {"method": "cdka", "components": Components.parse("".join(words))}
    raise CdkaError(f"an entry names components or a baseline: got {entry!r}. {EXAMPLE}")


def entry(components: Components) -> str:
    """The entry of a CDKA configuration."""
    return str(components)


def pretty(text: str) -> str:
    """An entry as people read it; text that is no entry is left as typed."""
    try:
        found = settings(text)
    except CdkaError:
        return text
    if "components" in found:
        c = found["components"]
        return f"r1 {c.r1} · r2 {c.r2} · r {c.r}"
    names = {"lora": "LoRA", "lokr": "LoKr", "dora": "DoRA", "full": "full fine-tuning"}
    return names[found["method"]] + (f" {found['rank']}" if "rank" in found else "")


def check(entries: list[str]) -> None:
    """Raises CdkaError for the first entry that stands for nothing."""
    for text in entries:
        settings(text)


def contents() -> list[str]:
    """The entries now in the basket."""
    return list(st.session_state.get(KEY, state.default(KEY)))


def add(*entries: str) -> None:
    """Put entries into the basket; what is there already stays once."""
    st.session_state[KEY] = list(dict.fromkeys([*contents(), *entries]))


def remove(*entries: str) -> None:
    """Take entries out of the basket."""
    st.session_state[KEY] = [entry for entry in contents() if entry not in entries]


def widget(label: str = "To compare") -> list[str]:
    """The basket as a field: remove with a click, type another; returns its entries."""
    now = contents()
    return st.multiselect(
        label,
        options=now,
        default=None if KEY in st.session_state else state.default(KEY),
        accept_new_options=True,
        placeholder="type 2,8,4 or lora 8 or full",
        **state.bound(KEY),
        help="Everything here is trained with the same task, steps and seeds. Carried between Design and Fine-tune.",
    )
