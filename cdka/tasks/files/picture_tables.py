"""Folders of pictures: the pictures and label folders in one, and the tables that name its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cdka.errors import CdkaError
from cdka.tasks.files.columns import LABEL, Role, guess
from cdka.tasks.files.folder import is_debris, joined
from cdka.tasks.files.split import NAMES, split_named
from cdka.tasks.files.table import Table, format_of, read_file

ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_DEPTH = 4
FILE = Role("file_column", "Picture's file", ("file_name", "filename", "file", "image", "image_path", "path"))
QUESTION = Role("prompt_column", "Question", ("question", "prompt", "instruction", "query"), True)
TEXT = Role("answer_column", "Text", ("answer", "text", "caption", "description", "response", "label"))
_LABELS_TOO = ("label",)
"""A text's usual name that is a label's as well: a table with no other text is one of labels."""


def is_picture(path: Path) -> bool:
    """Returns True for a file whose ending is that of a picture."""
    return path.suffix.lower() in ENDINGS and not is_debris(path)


def walk(folder: Path, wanted: Callable[[Path], bool], depth: int = 0) -> Iterator[Path]:
    """The files in a folder, and in those inside it, that are ``wanted``; debris never is."""
    for path in sorted(folder.iterdir()):
        if is_debris(path):
            continue
        if path.is_dir():
            if depth < MAX_DEPTH:
                yield from walk(path, wanted, depth + 1)
        elif wanted(path):
            yield path


def folders(folder: Path) -> list[Path]:
    """The folders inside a folder."""
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not is_debris(inner))


def label_folders(folder: Path) -> list[Path]:
    """The folders inside a folder that have pictures."""
    return [inner for inner in folders(folder) if any(True for _ in walk(inner, is_picture))]


def loose_files(folder: Path) -> list[Path]:
    """The files of a folder that lie in no folder inside it."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not is_debris(path)]


def holds_labels(folder: Path) -> bool:
    """Returns True for a folder with folders of pictures for two or more labels."""
    return len(label_folders(folder)) > 1


def holds_pictures(folder: Path) -> bool:
    """Returns True for a folder laid out as pictures: it has some, and a table named after a split only names them."""
    if not any(True for _ in walk(folder, is_picture)):
        return False
    tables = [path for path in loose_files(folder) if format_of(path) and split_named(path.stem)]
    return not tables or label_table(folder) is not None


def by_name(folder: Path) -> dict[str, Path]:
    """The pictures in ``folder`` by path, name and name without ending, each where it means one picture alone."""
    found: dict[str, list[Path]] = {}
    for path in walk(folder, is_picture):
        for name in dict.fromkeys((path.relative_to(folder).as_posix(), path.name, path.stem)):
            found.setdefault(name, []).append(path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def file_column(table: Table, places: Mapping[str, Path]) -> str | None:
    """The first column of which most values name a picture."""
    for name, values in table.columns.items():
        if 2 * sum(str(value).removeprefix("./") in places for value in values) > len(values):
            return name
    return None


def label_table(folder: Path) -> Table | None:
    """The table that gives the pictures in ``folder`` their labels (labels.csv, Kaggle's train.csv); None without one.

    It has a column of labels, none of captions or questions, and one whose values name pictures, with or without their
    endings. Folders that are labels themselves need none.
    """
    inner = label_folders(folder)
    if len(inner) > 1 and not any(split_named(one.name) for one in inner):
        return None
    tables = _tables(folder)
    places = by_name(folder) if tables else {}
    texts = replace(TEXT, usual=tuple(name for name in TEXT.usual if name not in _LABELS_TOO))
    for table in tables if places else ():
        of_texts = guess(table, texts) is not None or guess(table, QUESTION) is not None
        if not of_texts and guess(table, LABEL) is not None and file_column(table, places):
            return table
    return None


def text_table(folder: Path) -> Table | None:
    """The table with texts about the pictures in ``folder``: ``metadata.*``, else the only one there; None without one.

    Where each split has a folder with a table of its own, all of them are one.
    """
    file = _text_file(folder)
    return _of_splits(folder) if file is None else read_file(file)


def has_texts(folder: Path) -> bool:
    """True for pictures with a table of texts; beside folders of labels only one called ``metadata`` counts."""
    if not holds_pictures(folder) or label_table(folder) is not None:
        return False
    file = _text_file(folder)
    if file is None:
        return _of_splits(folder) is not None
    return file.name.split(".")[0] == "metadata" or not holds_labels(folder)


def _text_file(folder: Path) -> Path | None:
    files = [path for path in loose_files(folder) if format_of(path)]
    named = [path for path in files if path.name.split(".")[0] == "metadata"]
    return (named or files)[0] if len(named or files) == 1 else None


def _tables(folder: Path) -> list[Table]:
    """The tables in a folder, metadata first, then one named train; without any, those in its splits' folders."""
    files = [path for path in loose_files(folder) if format_of(path)]
    files.sort(key=lambda path: (path.name.split(".")[0] != "metadata", split_named(path.stem) != "train"))
    found = []
    for file in files:
        with suppress(CdkaError):
            found.append(read_file(file))
    if not files and (table := _of_splits(folder)) is not None:
        found.append(table)
    return found


def _of_splits(folder: Path) -> Table | None:
    """The tables in folders named after splits as one, pictures named from ``folder``; None without one for train."""
    found = []
    for inner in folders(folder):
        split = NAMES.get(inner.name.casefold())
        loose = loose_files(inner) if split else []
        files = [path for path in loose if format_of(path)]
        if split and len(files) == 1 and any(map(is_picture, loose)):
            found.append((split, _named_from_above(read_file(files[0], f"{inner.name}/{files[0].name}"), inner.name)))
    return joined(folder, found, ()) if any(split == "train" for split, _ in found) else None


def _named_from_above(table: Table, folder: str) -> Table:
    column = guess(table, FILE)
    if column is None:
        return table
    files = [value if value is None else f"{folder}/{value}" for value in table.columns[column]]
    return replace(table, columns={**table.columns, column: files})
