"""Data that come as one .zip archive, unpacked once into the home of all state."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from cdka.errors import CdkaError
from cdka.paths import home_dir
from cdka.tasks.files.digest import digest
from cdka.tasks.files.folder import is_debris

ZIP = ".zip"
MAX_BYTES = 20_000_000_000
"""The most that an archive may hold, unpacked."""


def unpacked(path: Path) -> Path:
    """The folder that a .zip archive was unpacked into, named as the archive; any other path comes back as it is.

    What operating systems leave in archives (``__MACOSX``) is left out. Raises CdkaError for an archive that cannot be
    read, asks for a password, or is too large.
    """
    if path.suffix.lower() != ZIP or not path.is_file():
        return path
    folder = home_dir() / "data" / f"{digest(path)[:16]}-unpacked" / path.stem
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _extract(path, beside)
            os.replace(beside, folder)
        except OSError:
            if not folder.is_dir():  # another process may have been first
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _extract(path: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            files = [(one, _place(one.filename)) for one in archive.infolist() if not one.is_dir()]
            wanted = [(one, place) for one, place in files if place is not None]
            if sum(one.file_size for one, _ in wanted) > MAX_BYTES:
                raise CdkaError(f"{path.name} holds more than {MAX_BYTES / 1e9:.0f} GB. Unpack it and name the folder.")
            for one, place in wanted:
                file = target / place
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(one) as source, file.open("wb") as out:
                    shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise CdkaError(f"{path.name} cannot be unpacked: {str(error)[:120]}. Unpack it and name the folder.") from None


def _place(name: str) -> str | None:
    """The path of an archive's file below the folder, None for debris and for a path that leads out of it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or any(is_debris(Path(part)) for part in parts):
        return None
    return "/".join(parts)
