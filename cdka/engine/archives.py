"""Files on their way between a submitter and the nodes of a cluster: packed, in pieces, addressed by their content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec

PIECE_BYTES = 4 * 2**20
_TEXTS = (".json", ".md", ".toml")
"""Files in which paths of a node may stand."""
_BLOCK = 2**20
KEPT_S = 30 * 24 * 3600.0
"""Inputs that no run has used for so long leave a node."""


def read_piece(path: Path, offset: int) -> bytes | None:
    """The piece of a file at ``offset``, empty at its end; None where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
    except FileNotFoundError:
        return None


def write_piece(path: Path, offset: int, piece: bytes) -> None:
    """Write a piece at its place; the first one begins the file anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        file.write(piece)


def pieces(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, piece, True for the last) of a file; one empty piece of an empty one."""
    size, offset = path.stat().st_size, 0
    while True:
        piece = read_piece(path, offset) or b""
        yield offset, piece, offset + len(piece) >= size
        offset += len(piece)
        if offset >= size:
            return


def pack(source: Path, archive: Path, skipped: Collection[str] = ()) -> None:
    """Write a file or folder into an uncompressed archive under its own name; unfinished files are left out."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        if source.is_file():
            file.write(source, source.name)
            return
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if inside.parts[0] not in skipped and ".partial" not in inside.parts[0] and path.is_file():
                file.write(path, inside.as_posix())


def packed(folder: Path, places: Mapping[str, str], skipped: Collection[str] = ()) -> Iterator[tuple[int, bytes, bool]]:
    """The pieces of an archive of the folder, with every path of ``places`` replaced by what it stands for."""
    relocate(folder, places)
    with tempfile.TemporaryDirectory(prefix="cdka-pack-") as temporary:
        archive = Path(temporary) / "archive"
        pack(folder, archive, skipped)
        yield from pieces(archive)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder that is made anew; a name that leads out of it does not (zipfile sees to it)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)


def relocate(folder: Path, places: Mapping[str, str]) -> None:
    """Replace paths in the small text files of a folder, as they stand there in JSON."""
    if not places:
        return
    for path in folder.rglob("*"):
        if path.suffix in _TEXTS and path.is_file() and path.stat().st_size < 16 * _BLOCK:
            before = after = path.read_text(encoding="utf-8")
            for old, new in places.items():
                after = after.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
            if after != before:
                path.write_text(after, encoding="utf-8")


def relocated(value: Any, places: Mapping[str, str]) -> Any:
    """Plain data with every text that is one of ``places``, or one with a colon behind it, replaced."""
    if isinstance(value, Mapping):
        return {key: relocated(inner, places) for key, inner in value.items()}
    if isinstance(value, str):
        path, colon, name = value.rpartition(":")
        return places.get(value) or (f"{places[path]}{colon}{name}" if path in places else value)
    return value


def local_paths(spec: RunSpec) -> list[Path]:
    """The files and folders of this machine that a run names: its model, its data, what it is to retain."""
    found = []
    for text in (spec.model, spec.retain, *spec.task_options.values()):
        if isinstance(text, str) and text.startswith("/"):
            for candidate in (text, text.rpartition(":")[0]):
                with suppress(OSError):
                    if candidate and Path(candidate).exists():
                        found.append(Path(candidate))
                        break
    return found


def state_of(path: Path) -> tuple[Any, ...]:
    """Names, sizes and times of a file or of a folder's files: equal ones are not read again."""
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    return (str(path), *((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def digest_of(path: Path) -> tuple[str, int]:
    """(SHA-256 of the names and contents of a file or folder, its size in bytes)."""
    sha, size = hashlib.sha256(), 0
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    for file in files:
        sha.update(
            f"{path.name if file == path else file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode()
        )
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                sha.update(block)
                size += len(block)
    return sha.hexdigest()[:32], size


def fetch_input(home: Path, digest: str, name: str, piece_at: Callable[[int], bytes | None]) -> Path:
    """The file or folder called ``name`` under its digest in a node's home, fetched unless it is there.

    Raises CdkaError where nobody has it.
    """
    folder = home / "inputs" / digest
    _prune(home / "inputs")
    if not folder.is_dir():
        (home / "inputs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home / "inputs", prefix="arriving-") as temporary:
            archive, offset = Path(temporary) / "archive", 0
            while piece := piece_at(offset):
                write_piece(archive, offset, piece)
                offset += len(piece)
            if not offset:
                raise CdkaError(f"what the run needs has not arrived: {name}. Retry the run.")
            unpack(archive, Path(temporary) / "content")
            inner = Path(temporary) / "content"
            with suppress(OSError):  # another task of this node was faster
                inner.rename(folder)
    os.utime(folder)
    return folder / name if (folder / name).is_file() and len(list(folder.iterdir())) == 1 else folder


def _prune(inputs: Path) -> None:
    """Remove what no run has used for ``KEPT_S``."""
    for folder in inputs.glob("*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)


def written_at(path: Path) -> int:
    """The time at which a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def texts(folder: Path) -> dict[str, str]:
    """The small files of a folder, by name."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}


def write_new(folder: Path, content: Mapping[str, str]) -> None:
    """Write those of the files that are not there yet; the first one stays, whoever writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        temporary = folder / f".{Path(name).name}.{os.getpid()}.tmp"
        temporary.write_text(text, encoding="utf-8")
        with suppress(FileExistsError):
            os.link(temporary, folder / Path(name).name)
        temporary.unlink()
