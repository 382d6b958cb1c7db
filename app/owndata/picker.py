"""Your own data in the order form: a path or an upload, what it is for, and which column means what."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import streamlit as st

from app import state, widgets
from cdka.paths import home_dir, write_privately
from cdka.tasks.files.columns import NONE, SPLIT, guess, roles_for
from cdka.tasks.files.digest import stamp
from cdka.tasks.files.instructions import COMPARISONS
from cdka.tasks.files.prepare import data_path, load_table
from cdka.tasks.files.preview import task_for
from cdka.tasks.files.split import SEED
from cdka.tasks.files.table import FORMATS
from cdka.tasks.prompts import INSTRUCTION

LARGEST_UPLOAD_MB = 200
_BY_CHANCE = "(drawn at random)"
_TEMPLATES = {"as instruction": INSTRUCTION, "as it is": "{prompt}"}


def data_form(task: str) -> dict[str, Any] | None:
    """Draws the fields for a ``local-...`` task; returns its task options, None while no data are named.

    Raises CdkaError for data that cannot be used.
    """
    path = _path(task)
    if not path:
        widgets.remark("Name your data to go on: rows, splits and tokens are shown before anything is trained.")
        return None
    given = _pictures() if task == "local-images" else _columns(task, path)
    file = data_path({"data": path}, task)
    return _options(task, path, tuple(sorted(given.items())), stamp(file) if file.exists() else ())


def _path(task: str) -> str:
    """The path typed, or that of the file uploaded: kept in the home folder under its digest, so that runs repeat."""
    uploaded = None
    if task != "local-images":
        uploaded = st.file_uploader(
            "Upload a file",
            type=[ending.lstrip(".") for ending in FORMATS],
            key="data-upload",
            max_upload_size=LARGEST_UPLOAD_MB,
            help="or give its path below; it never leaves this machine",
        )
    if uploaded is not None:
        content = uploaded.getvalue()
        folder = home_dir() / "data" / hashlib.sha256(content).hexdigest()[:16]
        file = folder / Path(uploaded.name).name
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_privately(file, content)
        st.session_state["data"] = str(file)
    what = "Folder of pictures" if task == "local-images" else "or path of a file or folder on this machine"
    typed = st.text_input(what, placeholder="/path/to/data", **state.bound("data"))
    return typed.strip()


@st.cache_data(show_spinner="Reading the data", max_entries=16)
def _options(task: str, path: str, given: tuple[tuple[str, Any], ...], changed: tuple) -> dict[str, Any]:
    return task_for(path, dict(given), task)[1]


def _columns(task: str, path: str) -> dict[str, Any]:
    """Roles of the columns, the split, and the comparison of answers."""
    file = data_path({"data": path}, task)
    table = load_table(file)
    widgets.remark(f"{file.name}: {len(table):,} rows, {len(table.names)} columns")
    given: dict[str, Any] = {}
    key = hashlib.sha256(f"{task}:{path}".encode()).hexdigest()[:8]
    for role in roles_for(task, table, {}):
        guessed = guess(table, role, given)
        if role.optional:
            choices = [NONE, *table.names]
            place = 0 if guessed is None else choices.index(guessed)
        else:
            choices = table.names
            place = choices.index(guessed or next((n for n in choices if n not in given.values()), choices[0]))
        given[role.option] = st.selectbox(role.title, choices, index=place, key=f"data-{role.option}-{key}")
    split = guess(table, SPLIT, given)
    place = 0 if split is None else 1 + table.names.index(split)
    chosen = st.selectbox(
        "Split",
        [_BY_CHANCE, *table.names],
        index=place,
        key=f"data-split-{key}",
        help="a column that says train, validation or test",
    )
    if chosen == _BY_CHANCE:
        given["split_seed"] = _seed()
        if split is not None:
            given["split_column"] = NONE
    else:
        given["split_column"] = chosen
    if task == "local-instruct":
        given["compare"] = st.segmented_control(
            "Compare answers as",
            list(COMPARISONS),
            default=COMPARISONS[0],
            required=True,
            key=f"data-compare-{key}",
        )
        around = st.segmented_control(
            "Prompt",
            list(_TEMPLATES),
            default=next(iter(_TEMPLATES)),
            required=True,
            key=f"data-template-{key}",
            help="prompt template around the instruction",
        )
        given["template"] = _TEMPLATES[around]
    if st.checkbox("Leave out rows that lack a value", key=f"data-drop-{key}"):
        given["drop_missing"] = True
    return given


def _pictures() -> dict[str, Any]:
    return {"split_seed": _seed()}


def _seed() -> int:
    return int(st.number_input("Seed of the split", 0, 10_000, SEED, key="data-seed", persist_state="session"))
