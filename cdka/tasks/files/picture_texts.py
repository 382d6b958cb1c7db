"""Pictures with texts: a folder with a table that names each picture's caption, or a question and its answer.

The layout of the Hub's ``imagefolder``: ``metadata.csv`` or ``metadata.jsonl`` with ``file_name`` and ``text``. Free of
torch; needs Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError, unknown
from cdka.formatting import plural
from cdka.tasks.answers import read_text
from cdka.tasks.files import split as splitting
from cdka.tasks.files.columns import NONE, guess
from cdka.tasks.files.digest import check_unchanged
from cdka.tasks.files.picture_tables import FILE, QUESTION, TEXT, is_picture, text_table
from cdka.tasks.files.pictures import check_readable
from cdka.tasks.files.prepare import SPLIT_OPTIONS, data_path, split_settings
from cdka.tasks.files.table import Table
from cdka.tasks.files.values import texts_of
from cdka.tasks.options import check_known, whole_number
from cdka.tasks.pixels import open_picture
from cdka.tasks.rows import SPLITS, Instruction, PictureTextRows
from cdka.tasks.scores import judged_by

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec
    from cdka.tasks.info import TaskInfo

NAME = "local-image-text"
OPTIONS = ("data", "sha256", *SPLIT_OPTIONS, "file_column", "prompt_column", "answer_column", "max_new_tokens")
CAPTION_PROMPT = "Describe the picture."
ROLES = (FILE, QUESTION, TEXT)
"""The roles of the columns in the table beside the pictures."""


def read(info: TaskInfo, spec: RunSpec) -> PictureTextRows:
    """The pictures and texts that ``spec.task_options`` name. Raises CdkaError with the line and the fix."""
    check_known(spec.task_options, OPTIONS, info.name)
    return read_rows(spec.task_options)


def read_rows(options: Mapping[str, Any]) -> PictureTextRows:
    """One instruction a row of the table, with the picture that it is about."""
    folder = data_path(options, NAME)
    check_unchanged(folder, options)
    table = text_table(folder) if folder.is_dir() else None
    if table is None:
        raise CdkaError(
            f"pictures with texts lie in a folder with one table (metadata.csv or metadata.jsonl) that names them: got "
            f"{str(folder)!r}."
        )
    roles = _roles(table, options)
    text = {option: texts_of(column, table.columns[column], table.place) for option, column in roles.items()}
    prompts = text.get("prompt_column") or [CAPTION_PROMPT] * len(table)
    files, rows = [], []
    for row, (name, prompt, answer) in enumerate(zip(text["file_column"], prompts, text["answer_column"], strict=True)):
        path = folder / (name or "")
        if name is None or answer is None or prompt is None:
            raise CdkaError(f"{table.place(row)}: a value is missing. Every row names a picture and its text.")
        if not is_picture(path) or not path.is_file():
            raise CdkaError(f"{table.place(row)}: no picture {name!r} in {folder.name}. Correct the name.")
        files.append(path)
        rows.append(Instruction(prompt, answer, read_text(answer), row))
    notes = check_readable(list(dict.fromkeys(files)))
    parts, more = _parts(table, roles, files, options)
    left_out = [name for name in table.names if name not in (*roles.values(), _split_column(table, roles, options))]
    if left_out:
        notes += (f"not used: {plural(len(left_out), 'column')} ({', '.join(left_out[:8])}).",)
    return PictureTextRows(
        {split: [rows[i] for i in parts[split]] for split in SPLITS},
        lambda row: open_picture(files[row.id]),
        judged_by(read_text),
        whole_number(options, "max_new_tokens", None),
        notes=(*table.notes, *notes, *more),
    )


def _roles(table: Table, options: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role in ROLES:
        given = options.get(role.option)
        if role.optional and given == NONE and NONE not in table.columns:
            continue
        if given is not None and str(given) not in table.columns:
            raise unknown("column", str(given), table.names, where=f"in {table.source}")
        column = str(given) if given is not None else guess(table, role, found)
        if column is not None:
            found[role.option] = column
        elif not role.optional:
            raise CdkaError(
                f"the {role.noun} column must be named: {table.source} has {', '.join(table.names)}. Usual names: "
                f"{', '.join(role.usual)}."
            )
    return found


def _split_column(table: Table, roles: Mapping[str, str], options: Mapping[str, Any]) -> str | None:
    column = str(options.get("split_column") or "split")
    return column if column in table.columns and column not in roles.values() else None


def _parts(table: Table, roles: Mapping[str, str], files: list[Path], options: Mapping[str, Any]) -> tuple[Any, Any]:
    column = _split_column(table, roles, options)
    names = table.splits if column is None else table.columns[column]
    if names is not None:
        return splitting.complete(splitting.by_name(names, table.place), None, table.source, files)
    settings = split_settings(options)
    parts, notes = splitting.complete(splitting.at_random(files, None, **settings), None, table.source, files)
    return parts, (f"{table.source} has no split column: split at random with seed {settings['seed']}.", *notes)
