"""Paths of the assets that ship with the package and of the home of all state; paths as people paste them."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

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


MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4096
"""The longest name and path that file systems know."""


def expanded(text: str | Path) -> Path:
    """The path that a text means, with ``~`` as the user's home. Raises CdkaError for a text that can be no path."""
    shown = str(text)[:80]
    try:
        raw = os.fsencode(str(text))
    except UnicodeEncodeError:
        raw = b"\0"
    if b"\0" in raw:
        raise CdkaError(f"a path must be text without NUL: got {shown!r}. Type the path of a file or folder.")
    if len(raw) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in raw.split(b"/")):
        raise CdkaError(
            f"a file's name has at most {MAX_NAME_BYTES} bytes and a path {MAX_PATH_BYTES}: got {len(raw):,} bytes, "
            f"{shown!r}... Type the path of a file or folder."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise CdkaError(f"~ must be a user of this machine: got {shown!r}. Type the whole path.") from None


def home_dir() -> Path:
    """The home of all state: ``CDKA_HOME`` if set, else the platform's user data directory. Created if absent.

    Raises CdkaError when it cannot be created or written to.
    """
    chosen = os.environ.get("CDKA_HOME")
    home = expanded(chosen) if chosen else Path(platformdirs.user_data_dir("cdka", appauthor=False))
    try:
        make_private(home)
    except OSError as error:
        raise CdkaError(
            f"the home folder must be writable: got {home} ({error.strerror}). Set CDKA_HOME to a folder you own."
        ) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise CdkaError(f"the home folder must be writable: got {home}. Set CDKA_HOME to a folder you own.")
    return home.resolve()


def make_private(home: Path) -> None:
    """Create a home for this user alone, and take others' rights from one that has more; left as it is elsewhere.

    Raises OSError where it cannot be created.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    keep_private(home)


def keep_private(path: Path) -> None:
    """Take the rights of others from a file or folder of this user's."""
    with suppress(OSError):  # another user's, or a file system without rights
        state = path.stat()
        if state.st_mode & 0o077 and state.st_uid == os.geteuid():
            path.chmod(state.st_mode & 0o700)


def write_privately(path: Path, content: str | bytes) -> None:
    """Write a file that only this user can read, whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader finds the file as it was or as it is now, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def replace_path(finished: Path, destination: Path) -> None:
    """Put a finished file or folder in place of an older one; a crash leaves one of the two whole."""
    old = destination.with_name(destination.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if destination.is_dir():
        destination.rename(old)
    finished.replace(destination)
    shutil.rmtree(old, ignore_errors=True)


_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "`": "`", "<": ">"}
_HUB_PAGE = re.compile(
    r"(?:https?://)?(?:[\w-]+\.)*(?:huggingface|hf|hf-mirror)\.\w+/(?:datasets/|models/)?"
    r"(?P<id>[\w.-]+/[\w.-]+?)(?:/(?:tree|blob|resolve|viewer|discussions)\b.*)?/?(?:[?#].*)?"
)


def pasted(text: str) -> str:
    """The path or Hub id that a pasted text means: without quotes, ``file://`` and the address of a Hub page.

    Separators of Windows become ``/``, and a shell's ``\\ `` a space, where only that names something that exists.
    Anything else comes back as it is.
    """
    text = text.strip()
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    if text.lower().startswith("file:"):
        address = urlsplit(text)
        host = "" if address.netloc.lower() in ("", "localhost") else f"//{address.netloc}"
        text = host + url2pathname(address.path)
        if re.match(r"/[A-Za-z]:[/\\]", text):
            text = text[1:]
    elif page := _HUB_PAGE.fullmatch(text):
        return page["id"]
    if "\\" in text and not expanded(text).exists():
        for other in (re.sub(r"\\(.)", r"\1", text), text.replace("\\", "/"), _in_wsl(text)):
            if other and expanded(other).exists():
                return other
    return text


def pasted_path(text: str | os.PathLike[str]) -> Path:
    """The path that a pasted text means, ``~`` being the home folder."""
    return expanded(pasted(os.fspath(text)))


def _in_wsl(text: str) -> str:
    """The folder ``/mnt/c/Users`` in which the Linux subsystem of Windows mounts ``C:\\Users``."""
    drive = re.match(r"([A-Za-z]):[\\/]", text)
    return f"/mnt/{drive[1].lower()}/{text[3:]}".replace("\\", "/") if drive else ""


LOG_TAIL_BYTES = 20_000


def log_tail(path: Path, most_bytes: int = LOG_TAIL_BYTES) -> str:
    """The last ``most_bytes`` of a text file, from the start of a line; empty where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most_bytes))
            tail = file.read(most_bytes)
    except FileNotFoundError:
        return ""
    if size > most_bytes and b"\n" in tail:
        tail = tail.split(b"\n", 1)[1]
    return tail.decode("utf-8", errors="replace")
