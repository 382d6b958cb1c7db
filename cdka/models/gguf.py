"""GGUF files as models: found by their path, converted once to safetensors in the home's cache. Free of torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cdka.childproc import stream
from cdka.errors import CdkaError
from cdka.paths import expanded, home_dir

SUFFIX = ".gguf"
SILENCE_LIMIT_S = 600.0
"""Reading a file's vocabulary sends nothing for up to a minute on a busy machine; tensors are reported one by one."""

Converting = Generator[dict[str, Any], None, Path]
"""Yields ``{"phase": "converting", "done", "of"}`` in tensors and returns the folder."""


def gguf_file(name: str) -> Path | None:
    """The GGUF file that ``name`` means: the file itself, or the only one in a folder without a config.json.

    None where ``name`` means something else. Raises CdkaError for a folder with several, and for a file that is not
    there.
    """
    path = expanded(name)
    if path.suffix.lower() == SUFFIX:
        if not path.is_file():
            raise CdkaError(f"a GGUF file must exist: got {name!r}. Give the path of the file.")
        return path.resolve()
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == SUFFIX)
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise CdkaError(f"a folder must hold one GGUF file: {name!r} has {names}. Give the path of one of them.")
    return files[0].resolve() if files else None


def converted_folder(file: Path) -> Path:
    """The folder in the home's cache for this file as it is now; it need not exist."""
    facts = file.stat()
    key = hashlib.sha256(f"{file}:{facts.st_size}:{facts.st_mtime_ns}".encode()).hexdigest()[:8]
    return home_dir() / "models" / f"{file.stem}-{key}"


def convert(file: Path) -> Converting:
    """The folder of safetensors made of a GGUF file, converted now where it was not before.

    Raises CdkaError where the package gguf is missing, and where the file cannot be read.
    """
    folder = converted_folder(file)
    if (folder / "config.json").is_file():
        return folder
    if find_spec("gguf") is None:
        raise CdkaError(
            f"a GGUF model needs the package gguf, which is not installed: got {file.name}. Run: pip install gguf"
        )
    folder.parent.mkdir(exist_ok=True)
    yield {"phase": "converting", "done": 0, "of": None}
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    yield from stream(
        "cdka.train.gguf:convert",
        {"file": str(file), "partial": str(partial), "folder": str(folder)},
        silence_limit_s=SILENCE_LIMIT_S,
        failure=f"{file.name} could not be converted",
    )
    return folder


def converted(file: Path) -> Path:
    """The folder that ``convert`` returns, its progress unread."""
    converting = convert(file)
    while True:
        try:
            next(converting)
        except StopIteration as end:
            return end.value
