"""From a zip file that anybody may have made, or the example that ships with us, to a checked bundle in the home."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from cdka.compare.bundle.check import check, refuse
from cdka.compare.bundle.layout import ALLOWED, MANIFEST, sha256
from cdka.compare.bundle.read import Bundle
from cdka.errors import CdkaError
from cdka.paths import assets_dir, home_dir

MAX_BYTES = 4 << 30
MAX_FILES = 50_000
MAX_BYTES_OF = {".json": 128 << 20, ".csv": 512 << 20, ".md": 1 << 20, ".txt": 1 << 20, ".py": 64 << 20}
"""Bounds of files that are read into memory at once, tighter than that of the whole."""
_BLOCK = 1 << 20


def folder(home: Path) -> Path:
    """The folder of imported bundles."""
    return Path(home) / "bundles"


def import_bundle(path: Path, home: Path | None = None) -> tuple[str, Bundle]:
    """The id and the bundle in ``path``, checked and unpacked under the home; importing twice gives the same id.

    Raises CdkaError, and leaves nothing behind, unless every file and field is as it was sealed.
    """
    if not path.is_file():
        raise CdkaError(f"there is no bundle at {path}. Give the path of a claim bundle, a .zip file.")
    home = home_dir() if home is None else Path(home)
    name = sha256(path)[:12]
    target = folder(home) / name
    if not target.is_dir():
        folder(home).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder(home), prefix=".part-") as part:
            unpack(path, Path(part))
            try:
                Path(part).rename(target)
            except OSError:
                if not target.is_dir():  # else another import of the same file was quicker
                    raise
            else:
                Path(part).mkdir()  # the context manager wants something to remove
    return name, check(target)


def unpack(path: Path, root: Path) -> Bundle:
    """The bundle in ``path``, unpacked under ``root`` (an empty folder of the caller's) and checked."""
    _extract(path, root)
    return check(root)


def open_bundle(path: Path) -> Bundle:
    """The bundle in ``path``, imported into this home."""
    return import_bundle(path)[1]


def imported(home: Path) -> dict[str, str]:
    """The imported bundles: id to name, newest first."""
    found = sorted(folder(home).glob(f"[!.]*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return {path.parent.name: _title(path, path.stat().st_mtime_ns) for path in found}


def imported_bundle(home: str | Path, name: str) -> Bundle:
    """The imported bundle with this id, checked again. Raises CdkaError where there is none, or it is damaged."""
    if name not in imported(Path(home)):
        raise CdkaError(f"there is no imported bundle {name!r}. Import its file again.")
    return check(folder(Path(home)) / name)


def forget(home: Path, name: str) -> None:
    """Remove an imported bundle."""
    if name in imported(home):
        shutil.rmtree(folder(home) / name)


@lru_cache(maxsize=256)
def _title(path: Path, _changed: int) -> str:
    """The name that a bundle gives itself, in a line; its id where it gives none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    name = found.get("name") if isinstance(found, dict) else None
    return " ".join(name.split())[:80] if isinstance(name, str) and name.strip() else path.parent.name


def _extract(path: Path, root: Path) -> None:
    """Unpack the names a bundle may hold and no other, within bounds. Nothing is written outside ``root``."""
    try:
        with zipfile.ZipFile(path) as file:
            items = file.infolist()
            if len(items) > MAX_FILES:
                raise CdkaError(f"a bundle holds at most {MAX_FILES:,} files: got {len(items):,} in {path.name}.")
            if sum(item.file_size for item in items) > MAX_BYTES:
                raise CdkaError(f"a bundle holds at most {MAX_BYTES >> 30} GiB: {path.name} would unpack to more.")
            seen = set()
            for item in items:
                if item.is_dir():
                    continue
                if item.file_size > MAX_BYTES_OF.get(Path(item.filename).suffix, MAX_BYTES):
                    raise refuse(item.filename, "", f"it would unpack to {item.file_size:,} bytes, more than are read")
                mode = item.external_attr >> 16
                if not ALLOWED.fullmatch(item.filename) or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
                    raise refuse(item.filename, "", "a bundle holds no such file")
                if item.filename in seen:
                    raise refuse(item.filename, "", "it occurs twice")
                seen.add(item.filename)
                target = root / item.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(item) as packed, target.open("wb") as out:  # zipfile reads no more than file_size
                    shutil.copyfileobj(packed, out, _BLOCK)
    except CdkaError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CdkaError(f"a claim bundle must be a whole zip file: {path.name} is not ({error}).") from None
    except OSError as error:
        raise CdkaError(f"{path.name} could not be unpacked in {root.parent}: {error.strerror}.") from None


NAME = "example"
FILE = "compare-example.zip"


def example() -> Bundle:
    """The embedded example, unpacked for as long as this process runs and checked as any other bundle."""
    return _unpacked()[1]


@lru_cache(maxsize=1)
def example_title() -> str:
    """The name of the example, without unpacking it."""
    with zipfile.ZipFile(assets_dir() / FILE) as file:
        return json.loads(file.read(MANIFEST))["name"]


@lru_cache(maxsize=1)
def _unpacked() -> tuple[tempfile.TemporaryDirectory, Bundle]:
    folder = tempfile.TemporaryDirectory(prefix="cdka-example-")
    return folder, unpack(assets_dir() / FILE, Path(folder.name))
