"""A folder of pictures as checked rows in three splits: by label folders, or by a table that names them.

Free of torch; needs Pillow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.tasks.files import split as splitting
from cdka.tasks.files.columns import LABEL, SPLIT, guess
from cdka.tasks.files.digest import check_unchanged, stamp
from cdka.tasks.files.picture_tables import (
    by_name,
    file_column,
    folders,
    is_picture,
    label_folders,
    label_table,
    loose_files,
    walk,
)
from cdka.tasks.files.prepare import OPTIONS, data_path, split_settings
from cdka.tasks.files.table import Table
from cdka.tasks.files.values import in_order, labels_of
from cdka.tasks.options import check_known
from cdka.tasks.pixels import open_picture
from cdka.tasks.rows import SPLITS

_LISTED = 5


@dataclass(frozen=True)
class Pictures:
    """The files and label numbers of every picture, and which of them are in which split (by position)."""

    source: str
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    parts: Mapping[str, np.ndarray]
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """Pictures as (file, label, split) with an empty split where the folder names none; the rest is not used."""

    pictures: list[tuple[Path, str, str]]
    strangers: list[Path]
    unlabelled: list[Path]
    other_folders: list[Path]


def _find(folder: Path) -> _Found:
    """Label folders, or such folders inside folders named after the splits. A folder around them is gone through.

    A label may be called ``train``: a split is a folder that holds label folders, a label one that holds pictures.
    """
    inner, loose = label_folders(folder), loose_files(folder)
    splits = [
        one for one in inner if splitting.NAMES.get(one.name.casefold()) and not any(map(is_picture, loose_files(one)))
    ]
    if any(splitting.NAMES[one.name.casefold()] == "train" for one in splits):
        flat = [one for one in inner if one not in splits and splitting.NAMES.get(one.name.casefold())]
        found, strangers = [], [file for file in loose if not is_picture(file)]
        for split in splits:
            more, strange = _labelled(label_folders(split), splitting.NAMES[split.name.casefold()])
            found += more
            strangers += [*strange, *loose_files(split)]  # a split folder with pictures of its own is no split
        others = [one for one in folders(folder) if one not in splits and one not in flat]
        unlabelled = [*filter(is_picture, loose), *(file for one in flat for file in walk(one, is_picture))]
        return _Found(found, strangers, unlabelled, others)
    if (
        len(inner) == 1
        and not any(map(is_picture, [*loose_files(inner[0]), *loose_files(folder)]))
        and label_folders(inner[0])
    ):
        return _find(inner[0])
    found, strangers = _labelled(inner, "")
    unlabelled = [file for file in loose if is_picture(file)]
    empty = [one for one in folders(folder) if one not in inner]
    return _Found(found, [*strangers, *(file for file in loose if not is_picture(file))], unlabelled, empty)


def _labelled(inner: Sequence[Path], split: str) -> tuple[list[tuple[Path, str, str]], list[Path]]:
    found, strangers = [], []
    for folder in inner:
        found += [(file, folder.name, split) for file in walk(folder, is_picture)]
        strangers += list(walk(folder, lambda file: not is_picture(file)))
    return found, strangers


def _notes(found: _Found, folder: Path, *, by_folder: bool = True) -> tuple[str, ...]:
    def listed(paths: Sequence[Path]) -> str:
        names = [str(path.relative_to(folder)) for path in paths[:_LISTED]]
        return ", ".join(names) + (" and more" if len(paths) > _LISTED else "")

    where = "in no label's folder" if by_folder else "without a label"
    notes = []
    deeper = [file for file, label, _ in found.pictures if by_folder and file.parent.name != label]
    if deeper:
        notes.append(
            f"{plural(len(deeper), 'picture')} in folders inside a label's folder have the outer one's label: "
            f"{listed(deeper)}."
        )
    if found.unlabelled:
        notes.append(f"{plural(len(found.unlabelled), 'picture')} {where} set aside: {listed(found.unlabelled)}.")
    if found.strangers:
        notes.append(
            f"{plural(len(found.strangers), 'file')} not used, no picture by its ending: {listed(found.strangers)}."
        )
    if found.other_folders:
        notes.append(f"{plural(len(found.other_folders), 'folder')} not used: {listed(found.other_folders)}.")
    return tuple(notes)


def _find_by_table(folder: Path, table: Table) -> tuple[_Found, tuple[str, ...]]:
    """The pictures that ``table`` names, with their labels, and its notes. Raises CdkaError with the line."""
    places = by_name(folder)
    files, label = file_column(table, places), guess(table, LABEL)
    if files is None or label is None:
        raise CdkaError(f"{table.source} must have a column of pictures' files and one of labels.")
    split = guess(table, SPLIT, {"file": files, "label": label})
    names = table.columns[split] if split else table.splits
    splits = [""] * len(table) if names is None else splitting.read_names(names, table.place)
    words = labels_of(label, table.columns[label], table.place)
    found = []
    for row, (name, word, part) in enumerate(zip(table.columns[files], words, splits, strict=True)):
        path = places.get(str(name).removeprefix("./"))
        if path is None or word is None:
            what = f"no picture {str(name)[:60]!r} in {folder.name}" if path is None else "a label is missing"
            raise CdkaError(f"{table.place(row)}: {what}. Every row names a picture and its label.")
        found.append((path, word, part))
    used = {path for path, _, _ in found}
    others = [path for path in walk(folder, is_picture) if path not in used]
    strangers = [path for path in loose_files(folder) if path.name != table.source and not is_picture(path)]
    unused = [name for name in table.names if name not in (files, label, split)]
    notes = (f"labels are those of {table.source}: column {label!r} for the pictures in {files!r}.", *table.notes)
    notes += (f"not used: {plural(len(unused), 'column')} ({', '.join(unused[:8])}).",) if unused else ()
    return _Found(found, strangers, others, []), notes


def check_readable(files: Sequence[Path]) -> tuple[str, ...]:
    """Decodes every picture, as training will; returns notes. Raises CdkaError that names those that cannot be."""
    with ThreadPoolExecutor(max_workers=8) as threads:
        kinds = list(threads.map(_checked, files))
    broken = [(file, kind[1]) for file, kind in zip(files, kinds, strict=True) if kind[0] == "broken"]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise CdkaError(
            f"{broken[0][0]}{more} cannot be read as a picture: {broken[0][1]}. Replace or remove the file."
        )
    counts = Counter(kind[0] for kind in kinds)
    notes = []
    if counts["frames"]:
        notes.append(f"{plural(counts['frames'], 'picture')} with several frames: the first is used.")
    return tuple(notes)


def _checked(file: Path) -> tuple[str, str]:
    try:
        image = open_picture(file)
        return ("frames", "") if getattr(image, "n_frames", 1) > 1 else ("whole", "")
    except CdkaError as error:
        return "broken", str(error)
    except Exception as error:  # Pillow's decoders raise many kinds
        return "broken", " ".join(str(error).split())[:100] or type(error).__name__


def prepare_pictures(options: Mapping[str, Any]) -> Pictures:
    """Find, check and split the pictures that the options name. Raises CdkaError with the file and the fix."""
    check_known(options, OPTIONS["local-images"], "local-images")
    path = data_path(options, "local-images")
    if not path.is_dir():
        raise CdkaError(f"pictures must lie in a folder with one folder per label: got {str(path)!r}.")
    check_unchanged(path, options)
    settings = {key: value for key, value in options.items() if key not in ("data", "sha256")}
    return _prepared(path, json.dumps(settings, sort_keys=True, default=str), stamp(path))


@lru_cache(maxsize=4)
def _prepared(path: Path, settings: str, _stamp: tuple) -> Pictures:
    options = json.loads(settings)
    table = label_table(path)
    found, notes = (_find(path), ()) if table is None else _find_by_table(path, table)
    notes += _notes(found, path, by_folder=table is None)
    words = tuple(in_order(label for _, label, _ in found.pictures))
    if len(words) < 2:
        raise CdkaError(
            f"{str(path)!r} must hold a folder of pictures for each of two or more labels: found "
            f"{', '.join(words) or 'none'}."
        )
    files = [file for file, _, _ in found.pictures]
    notes += check_readable(files)
    labels = [words.index(label) for _, label, _ in found.pictures]
    if found.pictures[0][2]:
        parts = {
            split: np.array([i for i, (_, _, of) in enumerate(found.pictures) if of == split], dtype=np.int64)
            for split in SPLITS
        }
    else:
        drawn = split_settings(options)
        parts = splitting.at_random(list(range(len(files))), labels, **drawn)
        without = "split folders" if table is None else "split column"
        notes += (f"{path.name} has no {without}: split at random with seed {drawn['seed']}.",)
    whole, more = splitting.complete(parts, labels, path.name)
    more += splitting.label_notes({split: [labels[i] for i in whole[split]] for split in SPLITS}, words)
    return Pictures(path.name, tuple(files), tuple(labels), whole, words, notes + more)
