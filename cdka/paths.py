"""Where things lie: the assets that ship with the package, and the home of all state."""

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
