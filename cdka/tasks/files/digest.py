"""The digest of data: what tells whether a file or folder still holds what a run was planned with."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.tasks.files.folder import is_debris

_SETTLED_NS = 2_000_000_000
"""A file changed more recently may change again within one tick of its clock, so its digest is not kept."""


def data_files(path: Path) -> Iterator[Path]:
    """The files of which data consist: the file itself, or all in a folder but what an operating system left there."""
    if not path.is_dir():
        yield path
        return
    for inner in sorted(path.iterdir()):
        if not is_debris(inner):
            yield from data_files(inner)


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """(name, size, time of change) of every file: cheap to make, and another one after any edit inside a folder."""
    found = []
    for file in data_files(path):
        facts = file.stat()
        found.append((str(file), facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, or of the names and contents in a folder."""
    files = stamp(path)
    if not path.is_dir():
        return _of_file(*files[0])
    sha = hashlib.sha256()
    for name, size, changed_ns in files:
        sha.update(f"{Path(name).relative_to(path)}:{_of_file(name, size, changed_ns)}\n".encode())
    return sha.hexdigest()


def _folder_digest_of_0_1_0(path: Path) -> str | None:
    """The SHA-256 of the names and sizes in a folder, which runs that 0.1.0 planned carry; None for a file."""
    if not path.is_dir():
        return None
    sha = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        sha.update(f"{file.relative_to(path)}:{file.stat().st_size}\n".encode())
    return sha.hexdigest()


def _of_file(name: str, size: int, changed_ns: int) -> str:
    if time.time_ns() - changed_ns < _SETTLED_NS:
        return _sha256(name)
    return _kept_sha256(name, size, changed_ns)


def _sha256(name: str) -> str:
    with Path(name).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@lru_cache(maxsize=1 << 16)
def _kept_sha256(name: str, size: int, changed_ns: int) -> str:
    del size, changed_ns  # part of the key only: an edited file is read again
    return _sha256(name)


def check_unchanged(path: Path, options: Mapping[str, Any]) -> None:
    """Raises CdkaError where the data are not those that the run was planned with."""
    planned = options.get("sha256")
    if planned and path.exists() and planned not in (digest(path), _folder_digest_of_0_1_0(path)):
        raise CdkaError(
            f"{path.name} has changed since this run was planned, so its results would not compare. Put the old data "
            "back, or start a new run."
        )
