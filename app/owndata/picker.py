"""Your own data in the order form: a path or an upload, what it is for, and which column means what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app import form_memory, state, widgets
from cdka.formatting import plural
from cdka.paths import home_dir, write_privately
from cdka.tasks.files.columns import NONE, SPLIT, TEXT, Role, guess, roles_for
from cdka.tasks.files.digest import stamp
from cdka.tasks.files.instructions import COMPARISONS
from cdka.tasks.files.picture_tables import text_table
from cdka.tasks.files.picture_texts import ROLES as PICTURE_ROLES
from cdka.tasks.files.prepare import data_path, load_table
from cdka.tasks.files.preview import task_for
from cdka.tasks.files.split import SEED
from cdka.tasks.files.table import FORMATS, Table
from cdka.tasks.files.text import SUFFIXES as TEXT_SUFFIXES
from cdka.tasks.files.text import is_text
from cdka.tasks.files.unpack import ZIP
from cdka.tasks.prompts import INSTRUCTION

MAX_UPLOAD_MB = 200
_LAST_UPLOAD = "data-uploaded"
_OF_PICTURES = ("local-images", "local-image-text")
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
    file = data_path({"data": path}, task)
    given = _FORMS.get(task, _columns)(task, path, file)
    return _options(task, path, tuple(sorted(given.items())), stamp(file) if file.exists() else ())


def _path(task: str) -> str:
    """The path typed, or that of the file uploaded: kept in the home folder under its digest, so that runs repeat.

    The last of the two counts; a file once uploaded stays named in the path field when the upload is forgotten.
    """
    pictures = task in _OF_PICTURES
    uploaded = st.file_uploader(
        "Upload a .zip of the folder" if pictures else "Upload a file",
        type=[ending.lstrip(".") for ending in _endings(task)],
        key="data-upload",
        max_upload_size=MAX_UPLOAD_MB,
        help="or give its path below; it never leaves this machine",
    )
    if uploaded is not None and st.session_state.get(_LAST_UPLOAD) != uploaded.file_id:
        st.session_state[_LAST_UPLOAD] = uploaded.file_id
        st.session_state["data-path"] = str(_stored(uploaded.name, uploaded.getvalue()))
    what = "or path of a folder of pictures" if pictures else "or path of a file or folder on this machine"
    typed = st.text_input(what, placeholder="/path/to/data", **state.bound("data-path"))
    return typed.strip()


def _endings(task: str) -> tuple[str, ...]:
    if task in _OF_PICTURES:
        return (ZIP,)
    return (*FORMATS, ".gz", ZIP, *(TEXT_SUFFIXES if task == "local-text" else ()))


def _stored(name: str, content: bytes) -> Path:
    """The file in the home folder that holds an upload."""
    folder = home_dir() / "data" / hashlib.sha256(content).hexdigest()[:16]
    file = folder / Path(name).name
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_privately(file, content)
    return file


@st.cache_data(show_spinner="Reading the data", max_entries=16)
def _options(task: str, path: str, given: tuple[tuple[str, Any], ...], changed: tuple) -> dict[str, Any]:
    return task_for(path, dict(given), task)[1]


def _columns(task: str, path: str, file: Path) -> dict[str, Any]:
    """Roles of the columns, the split, and the comparison of answers."""
    table = load_table(file)
    widgets.remark(f"{file.name}: {plural(len(table), 'row')}, {plural(len(table.names), 'column')}")
    given: dict[str, Any] = {}
    key = _key(task, path)
    for role in roles_for(task, table, {}):
        given[role.option] = _role(role, table, given, key)
    split = guess(table, SPLIT, given)
    place = 0 if split is None else 1 + table.names.index(split)
    chosen = st.selectbox(
        "Split",
        [_BY_CHANCE, *table.names],
        index=place,
        **form_memory.kept(f"data-split-{key}"),
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
            **form_memory.kept(f"data-compare-{key}"),
        )
        around = st.segmented_control(
            "Prompt",
            list(_TEMPLATES),
            default=next(iter(_TEMPLATES)),
            required=True,
            **form_memory.kept(f"data-template-{key}"),
            help="prompt template around the instruction",
        )
        given["template"] = _TEMPLATES[around]
    if st.checkbox("Leave out rows that lack a value", **form_memory.kept(f"data-drop-{key}")):
        given["drop_missing"] = True
    return given


def _key(task: str, path: str) -> str:
    """The key under which the columns of one file for one task are kept, in every room."""
    return hashlib.sha256(f"{task}:{path}".encode()).hexdigest()[:8]


def _role(role: Role, table: Table, given: Mapping[str, str], key: str) -> str:
    """The column that plays a role: the user's choice, at first the one whose name is usual."""
    guessed = guess(table, role, given)
    if role.optional:
        choices = [NONE, *table.names]
        place = 0 if guessed is None else choices.index(guessed)
    else:
        choices = table.names
        place = choices.index(guessed or next((n for n in choices if n not in given.values()), choices[0]))
    return st.selectbox(role.title, choices, index=place, **form_memory.kept(f"data-{role.option}-{key}"))


def _running_text(task: str, path: str, file: Path) -> dict[str, Any]:
    """Text files need no columns; of a table, one column is read."""
    if not file.exists() or is_text(file):
        return {}
    return {TEXT.option: _role(TEXT, load_table(file), {}, _key(task, path))}


def _picture_texts(task: str, path: str, file: Path) -> dict[str, Any]:
    given: dict[str, Any] = {}
    table = text_table(file) if file.is_dir() else None
    if table is not None:
        for role in PICTURE_ROLES:
            given[role.option] = _role(role, table, given, _key(task, path))
    return {**given, "split_seed": _seed()}


def _pictures(task: str, path: str, file: Path) -> dict[str, Any]:
    return {"split_seed": _seed()}


def _seed() -> int:
    return int(st.number_input("Seed of the split", 0, 10_000, SEED, **form_memory.kept("data-seed")))


_FORMS = {"local-text": _running_text, "local-image-text": _picture_texts, "local-images": _pictures}
"""The fields of the tasks whose data are no table of rows."""
