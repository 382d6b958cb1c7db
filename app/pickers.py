"""The questions that several rooms ask alike: which model, which data, and which of all the runs or sweeps."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import streamlit as st

from app import state, widgets
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import ModelShapes
from cdka.tasks.catalogue import find_task
from cdka.tasks.info import TaskInfo
from cdka.tasks.suitable import suitable_tasks

CATALOGUE, OWN = "Catalogue", "Your own file"
ANY = {"model": "any model", "task": "any task", "state": "any state", "date": "any date"}
DAYS = {ANY["date"]: None, "last 24 hours": 1, "last 7 days": 7, "last 30 days": 30}


def model_picker(name: str, *, help: str, width: int | str = "stretch") -> ModelShapes:
    """The chosen model: of the catalogue, or any Hub id or folder typed in. ``name`` is its property in the address.

    A model that cannot be found is refused in place, and the last one that could be stays, so that the room lives on.
    """
    names = [shapes.name for shapes in list_models()]
    chosen = st.selectbox(
        "Model",
        names,
        index=names.index(state.default(name)),
        accept_new_options=True,
        width=width,
        help=help,
        **state.bound(name),
    )
    last = st.session_state.get(f"{name}-found", state.default(name))
    try:
        shapes = find_model(chosen or last)
    except CdkaError as refusal:
        widgets.error(f"{str(refusal).rstrip('.')}. Showing {last} meanwhile.")
        shapes = find_model(last)
    st.session_state[f"{name}-found"] = shapes.name
    return shapes


def task_picker(name: str, shapes: ModelShapes, *, width: int | str = "stretch") -> TaskInfo:
    """The chosen task among those that suit the model, or what to do with a file of one's own.

    Raises CdkaError where nothing suits the model.
    """
    suitable = suitable_tasks(shapes)
    lists = {
        CATALOGUE: [task.name for task in suitable if not task.is_own_data],
        OWN: [task.name for task in suitable if task.is_own_data],
    }
    if not any(lists.values()):
        raise CdkaError(f"no task in the catalogue suits {shapes.name!r}. Choose another model, or see: cdka tasks")
    wanted = st.session_state.get(name) or st.query_params.get(name, state.default(name))
    known = [*lists[CATALOGUE], *lists[OWN]]
    wanted = wanted if wanted in known else known[0]
    place = OWN if wanted in lists[OWN] else CATALOGUE
    if all(lists.values()):
        st.session_state[f"{name}-data"] = place
        st.segmented_control(
            "Data",
            [OWN, CATALOGUE],
            required=True,
            key=f"{name}-data",
            on_change=_choose_first,
            args=(name, {key: names[0] for key, names in lists.items()}),
            help="A CSV, JSONL, JSON or Parquet file, or a folder of pictures; it never leaves this machine.",
        )
    offered = lists[place]
    # Only what an address without the property means is left out of it; any other task must survive a reload.
    silent = 0 if offered[0] == state.default(name) else None
    if st.session_state.get(name) not in offered and (silent is None or name in st.session_state):
        st.session_state[name] = wanted
    label = "Task" if place == CATALOGUE else "What to train on it"
    chosen = st.selectbox(label, offered, width=width, index=silent, **state.bound(name))
    return find_task(chosen or wanted)


def _choose_first(name: str, first: dict[str, str]) -> None:
    st.session_state[name] = first[st.session_state[f"{name}-data"]]


@dataclass(frozen=True)
class Filter:
    """A choice among runs or sweeps: words, and one model, task and state, None where any will do.

    ``since`` is a moment in Unix seconds, None for any.
    """

    text: str = ""
    model: str | None = None
    task: str | None = None
    state: str | None = None
    since: float | None = None

    @property
    def is_set(self) -> bool:
        """True where something is left out."""
        return self != Filter()


def filter_form(
    name: str, models: Iterable[str], tasks: Iterable[str], states: Iterable[str], *, placeholder: str
) -> Filter:
    """The choice among the runs or sweeps of a list, asked for in one line of fields; ``name`` is the list's own."""
    offered = {"model": models, "task": tasks, "state": states, "date": [day for day in DAYS if day != ANY["date"]]}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"{name}-filter"):
        st.text_input("Search", key=f"{name}-search", persist_state="session", placeholder=placeholder, width=300)
        for field, values in offered.items():
            key, options = f"{name}-{field}", [ANY[field], *values]
            if st.session_state.get(key) not in options:
                st.session_state[key] = ANY[field]
            st.selectbox(field.capitalize(), options, key=key, persist_state="session", width=150)
    return filter_of(name)


def filter_of(name: str) -> Filter:
    """The choice that ``filter_form`` of this list holds."""
    held = {field: st.session_state.get(f"{name}-{field}", word) for field, word in ANY.items()}
    days = DAYS.get(held.pop("date"))
    return Filter(
        text=str(st.session_state.get(f"{name}-search") or "").strip(),
        since=None if days is None else time.time() - 86_400 * days,
        **{field: None if value == ANY[field] else value for field, value in held.items()},
    )
