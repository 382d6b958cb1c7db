"""A folder of pictures as checked rows in three splits: by label folders, or by a table that names them.

Free of torch; needs Pillow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.tasks.files import split as splitting
from cdka.tasks.files.digest import check_unchanged, stamp
from cdka.tasks.files.folder import is_debris
from cdka.tasks.files.prepare import OPTIONS, data_path, split_settings
from cdka.tasks.files.table import format_of
from cdka.tasks.options import check_known
from cdka.tasks.pixels import open_picture
from cdka.tasks.rows import SPLITS

ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_DEPTH = 4
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


def is_picture(path: Path) -> bool:
    """Returns True for a file whose ending is that of a picture."""
    return path.suffix.lower() in ENDINGS and not is_debris(path)


def holds_pictures(folder: Path) -> bool:
    """Returns True for a folder that is laid out as pictures: it has some, and no table named after a split."""
    inner = [path for path in folder.iterdir() if not is_debris(path)]
    tables = [path for path in inner if path.is_file() and format_of(path) and splitting.split_named(path.stem)]
    return not tables and any(True for _ in _walk(folder, is_picture))


def _walk(folder: Path, wanted: Any, depth: int = 0) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if is_debris(path):
            continue
        if path.is_dir():
            if depth < MAX_DEPTH:
                yield from _walk(path, wanted, depth + 1)
        elif wanted(path):
            yield path


def _folders(folder: Path) -> list[Path]:
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not is_debris(inner))


def _label_folders(folder: Path) -> list[Path]:
    return [inner for inner in _folders(folder) if any(True for _ in _walk(inner, is_picture))]


def holds_labels(folder: Path) -> bool:
    """Returns True for a folder with folders of pictures for two or more labels."""
    return len(_label_folders(folder)) > 1


def _loose(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not is_debris(path)]


def _find(folder: Path) -> _Found:
    """Label folders, or such folders inside folders named after the splits. A folder around them is gone through.

    A label may be called ``train``: a split is a folder that holds label folders, a label one that holds pictures.
    """
    inner = _label_folders(folder)
    splits = [
        one for one in inner if splitting.NAMES.get(one.name.casefold()) and not any(map(is_picture, _loose(one)))
    ]
    if any(splitting.NAMES[one.name.casefold()] == "train" for one in splits):
        flat = [one for one in inner if one not in splits and splitting.NAMES.get(one.name.casefold())]
        found, strangers = [], _loose(folder)
        for split in splits:
            more, strange = _labelled(_label_folders(split), splitting.NAMES[split.name.casefold()])
            found += more
            strangers += [*strange, *_loose(split)]
        others = [one for one in _folders(folder) if one not in splits and one not in flat]
        unlabelled = [file for one in flat for file in _walk(one, is_picture)]
        return _Found(found, strangers, unlabelled, others)
    if len(inner) == 1 and not any(map(is_picture, [*_loose(inner[0]), *_loose(folder)])) and _label_folders(inner[0]):
        return _find(inner[0])
    found, strangers = _labelled(inner, "")
    loose = _loose(folder)
    unlabelled = [file for file in loose if is_picture(file)]
    empty = [one for one in _folders(folder) if one not in inner]
    return _Found(found, [*strangers, *(file for file in loose if not is_picture(file))], unlabelled, empty)


def _labelled(folders: Sequence[Path], split: str) -> tuple[list[tuple[Path, str, str]], list[Path]]:
    found, strangers = [], []
    for folder in folders:
        found += [(file, folder.name, split) for file in _walk(folder, is_picture)]
        strangers += list(_walk(folder, lambda file: not is_picture(file)))
    return found, strangers


def _notes(found: _Found, folder: Path) -> tuple[str, ...]:
    def listed(paths: Sequence[Path]) -> str:
        names = [str(path.relative_to(folder)) for path in paths[:_LISTED]]
        return ", ".join(names) + (" and more" if len(paths) > _LISTED else "")

    notes = []
    deeper = [file for file, label, _ in found.pictures if file.parent.name != label]
    if deeper:
        notes.append(
            f"{plural(len(deeper), 'picture')} in folders inside a label's folder have the outer one's label: "
            f"{listed(deeper)}."
        )
    if found.unlabelled:
        notes.append(
            f"{plural(len(found.unlabelled), 'picture')} in no label's folder set aside: {listed(found.unlabelled)}."
        )
    if found.strangers:
        notes.append(
            f"{plural(len(found.strangers), 'file')} not used, no picture by its ending: {listed(found.strangers)}."
        )
    if found.other_folders:
        notes.append(f"{plural(len(found.other_folders), 'folder')} not used: {listed(found.other_folders)}.")
    return tuple(notes)


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
    found = _find(path)
    notes = _notes(found, path)
    words = tuple(sorted({label for _, label, _ in found.pictures}))
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
        notes += (f"{path.name} has no split folders: split at random with seed {drawn['seed']}.",)
    whole, more = splitting.complete(parts, labels, path.name)
    return Pictures(path.name, tuple(files), tuple(labels), whole, words, notes + more)
