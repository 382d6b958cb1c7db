"""Paths of the assets that ship with the package and of the home of all state; a file written all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from cdka.errors import CdkaError


def assets_dir() -> Path:
    """The folder of embedded models and data: inside the installed package, else beside the source tree."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "_assets", package.parent / "assets"):
        if candidate.is_dir():
            return candidate
    raise CdkaError(f"the embedded assets are missing: looked in {package / '_assets'}. Reinstall cdka-studio.")


def studio_dir() -> Path:
    """The folder that holds the package ``app``, the Studio: inside the installed package, else the source tree."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "_studio", package.parent):
        if (candidate / "app" / "main.py").is_file():
            return candidate
    raise CdkaError(f"the Studio is missing: looked in {package / '_studio'}. Reinstall cdka-studio.")


def home_dir() -> Path:
    """The home of all state: ``CDKA_HOME`` if set, else the platform's user data directory. Created if absent.

    Raises CdkaError when it cannot be created or written to.
    """
    chosen = os.environ.get("CDKA_HOME")
    home = Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("cdka", appauthor=False))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CdkaError(
            f"the home folder must be writable: got {home} ({error.strerror}). Set CDKA_HOME to a folder you own."
        ) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise CdkaError(f"the home folder must be writable: got {home}. Set CDKA_HOME to a folder you own.")
    return home.resolve()


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader finds the file as it was or as it is now, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
