"""A table from a file, or from a folder of split files as people, Kaggle and the Hub lay them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.paths import expanded
from cdka.tasks.files.split import split_named
from cdka.tasks.files.table import Table, format_of, read_file
from cdka.tasks.rows import SPLITS

DEBRIS = ("__macosx", "thumbs.db", "desktop.ini", ".ds_store", "icon\r", "@eadir")
"""Files that operating systems leave in folders."""
_ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json")
"""Descriptions that stand beside the Hub's data files."""


def read_table(path: str | Path) -> Table:
    """The rows of a file, or of a folder whose files are named after their splits. Raises CdkaError."""
    path = expanded(path)
    return read_folder(path) if path.is_dir() else read_file(path)


def is_debris(path: Path) -> bool:
    """Returns True for hidden files and for what operating systems leave in folders."""
    return path.name.startswith((".", "~$")) or path.name.casefold() in DEBRIS


def holds_tables(folder: Path) -> bool:
    """Returns True for a folder with a table in it, or in a folder named after a split or called ``data``."""
    return any(True for _ in _tables(folder))


def read_folder(folder: Path) -> Table:
    """The rows of every split file in ``folder``, with a note for each file that is not read.

    Several files of one split (shards) follow one another by name. Raises CdkaError where no file is named train.
    """
    found = list(_tables(folder))
    named = [(file, _split_of(file, folder)) for file in found]
    if len(found) == 1 and named[0][1] is None:
        return read_file(found[0])
    by_split = {split: [file for file, of in named if of == split] for split in SPLITS}
    if not by_split["train"]:
        listed = ", ".join(str(file.relative_to(folder)) for file in found[:6]) or "no tables"
        sets = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and not is_debris(path)]
        sets = [name for name in sets if not found and holds_tables(folder / name)]
        if sets:
            raise CdkaError(f"{str(folder)!r} holds several data sets: {', '.join(sets[:6])}. Name the folder of one.")
        raise CdkaError(
            f"a data folder must hold a train file (train.csv, train.jsonl, train-00000-of-00001.parquet): "
            f"{str(folder)!r} holds {listed}. Rename a file, or name one file instead of the folder."
        )
    by_split = {split: _one_format(files) for split, files in by_split.items()}
    used = [file for files in by_split.values() for file in files]
    tables = [(split, read_file(file, str(file.relative_to(folder)))) for split in SPLITS for file in by_split[split]]
    return joined(folder, tables, _notes(folder, by_split, [file for file in found if file not in used]))


def _split_of(file: Path, folder: Path) -> str | None:
    """The split that a file is named after, or the folder that it lies in."""
    return split_named(_stem(file)) or (split_named(file.parent.name) if file.parent != folder else None)


def _stem(file: Path) -> str:
    return file.name.split(".", 1)[0] if format_of(file) else file.stem


def _tables(folder: Path) -> Iterator[Path]:
    """The tables of a folder, and of folders in it that are named after a split or hold nothing but the data."""
    inner = []
    for path in sorted(folder.iterdir()):
        if is_debris(path):
            continue
        if path.is_dir():
            inner.append(path)
        elif format_of(path) and path.name not in _ABOUT:
            yield path
    for path in inner:
        if split_named(path.name) or path.name == "data" or (len(inner) == 1 and not _holds_files(folder)):
            yield from _tables(path)


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() and not is_debris(path) and format_of(path) for path in folder.iterdir())


def _one_format(files: list[Path]) -> list[Path]:
    """One copy of a split where it lies there in several formats (``train.csv`` beside ``train.parquet``)."""
    formats = {format_of(file): [other for other in files if format_of(other) == format_of(file)] for file in files}
    return max(formats.values(), key=len) if formats else []


def _notes(folder: Path, by_split: dict[str, list[Path]], unread: list[Path]) -> tuple[str, ...]:
    notes = []
    for split, files in by_split.items():
        if len(files) > 1:
            notes.append(f"{split} is made of {plural(len(files), 'file')}, {files[0].name} to {files[-1].name}.")
    if unread:
        listed = ", ".join(str(file.relative_to(folder)) for file in unread[:5])
        more = " and more" if len(unread) > 5 else ""
        notes.append(f"not read, because another file holds their split or they are named after none: {listed}{more}.")
    return tuple(notes)


def joined(folder: Path, tables: list[tuple[str, Table]], notes: tuple[str, ...]) -> Table:
    """One table of all splits; a column that some files lack is missing in their rows, and a note names it."""
    names = list(dict.fromkeys(name for _, table in tables for name in table.names))
    for name in names:
        lacking = [table.source for _, table in tables if name not in table.columns]
        if lacking:
            notes += (f"{', '.join(lacking[:3])} has no column {name!r}.",)
    columns = {name: [v for _, t in tables for v in t.columns.get(name, [None] * len(t))] for name in names}
    return Table(
        folder.name,
        columns,
        [line for _, table in tables for line in table.lines],
        [file for _, table in tables for file in table.files],
        [split for split, table in tables for _ in range(len(table))],
        notes + tuple(note for _, table in tables for note in table.notes),
    )
