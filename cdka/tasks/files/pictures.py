"""A folder of pictures, one folder per label, as checked rows in three splits. Free of torch; needs Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdka.errors import CdkaError
from cdka.tasks.files import split as splitting
from cdka.tasks.files.prepare import OPTIONS, check_unchanged, data_path, split_settings
from cdka.tasks.options import check_known

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Pictures:
    """The files and label numbers of every picture, and which of them are in which split (by position)."""

    source: str
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    parts: Mapping[str, np.ndarray]
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _folders(folder: Path) -> list[Path]:
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _labelled(folder: Path) -> list[tuple[Path, str]]:
    found, strangers = [], []
    for inner in _folders(folder):
        for file in sorted(inner.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                (found if file.suffix.lower() in ENDINGS else strangers).append((file, inner.name))
    if strangers:
        raise CdkaError(
            f"{strangers[0][0]} is no picture ({len(strangers)} such files). Pictures end in {', '.join(ENDINGS)}; "
            "move the others away."
        )
    return found


def _check_readable(files: list[Path]) -> None:
    from PIL import Image, UnidentifiedImageError

    broken = []
    for file in files:
        try:
            with Image.open(file) as image:
                image.verify()
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
            broken.append(file)
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise CdkaError(f"{broken[0]}{more} cannot be read as a picture. Replace or remove the file.")


def prepare_pictures(options: Mapping[str, Any]) -> Pictures:
    """Find, check and split the pictures that the options name. Raises CdkaError with the file and the fix."""
    check_known(options, OPTIONS["local-images"], "local-images")
    path = data_path(options, "local-images")
    if not path.is_dir():
        raise CdkaError(f"pictures must lie in a folder with one folder per label: got {str(path)!r}.")
    check_unchanged(path, options)
    names = {folder.name.casefold(): folder for folder in _folders(path)}
    given = {name: folder for name, folder in names.items() if name in splitting.NAMES}
    if given and len(given) == len(names):
        found = [
            (file, label, splitting.NAMES[name]) for name, folder in given.items() for file, label in _labelled(folder)
        ]
    else:
        found = [(file, label, "") for file, label in _labelled(path)]
    words = tuple(sorted({label for _, label, _ in found}))
    if len(words) < 2:
        raise CdkaError(
            f"{str(path)!r} must hold a folder of pictures for each of two or more labels: found "
            f"{', '.join(words) or 'none'}."
        )
    files = [file for file, _, _ in found]
    _check_readable(files)
    labels = [words.index(label) for _, label, _ in found]
    notes: tuple[str, ...] = ()
    if given and len(given) == len(names):
        parts = {
            split: np.array([i for i, (_, _, of) in enumerate(found) if of == split])
            for split in ("train", "validation", "test")
        }
    else:
        settings = split_settings(options)
        parts = splitting.at_random(list(range(len(files))), labels, **settings)
        notes = (f"{path.name} has no split folders: split at random with seed {settings['seed']}.",)
    whole, more = splitting.complete(parts, labels, path.name)
    return Pictures(path.name, tuple(files), tuple(labels), whole, words, notes + more)
