"""Where the files of a model or data set lie on this machine, fetched from the Hub first if need be. Free of torch."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from cdka.errors import CdkaError
from cdka.models.catalogue import list_models
from cdka.paths import assets_dir

STALL_LIMIT_S = 30.0
"""A download that brings no byte for this long is given up."""
START_LIMIT_S = 20.0
"""How long the fetching process may take to say anything at all."""


def held(name: str) -> Path | None:
    """The folder of the embedded model or local directory called ``name``; None for a Hub id.

    Raises CdkaError for a folder that holds no model.
    """
    embedded = assets_dir() / name
    if "/" not in name and (embedded / "config.json").is_file():
        return embedded
    path = Path(name).expanduser()
    if not path.is_dir():
        return None
    if not (path / "config.json").is_file():
        hint = " It holds an adapter; give its base model." if (path / "adapter_config.json").is_file() else ""
        raise CdkaError(
            f"a model directory needs a config.json: none in {name!r}.{hint} Give the folder of a saved model."
        )
    return path


def hub_id_of(name: str) -> str:
    """The Hub id that a catalogue name stands for, or ``name`` itself."""
    return next((shapes.hub_id for shapes in list_models() if name == shapes.name and shapes.hub_id), name)


Fetching = Generator[dict[str, Any], None, Path]
"""Yields progress and returns the folder."""


def obtain(name: str) -> Fetching:
    """Make the model's files be here; yields ``{"phase": "downloading", "done_bytes", "total_bytes"}`` meanwhile.

    Returns the folder as the generator's value. Raises CdkaError, in one line, where they cannot be had.
    """
    folder = held(name)
    if folder is not None:
        return folder
    return (yield from _fetch("model", hub_id_of(name), ()))


def obtain_dataset(name: str, patterns: Sequence[str] = ()) -> Fetching:
    """The same for a data set: a local copy of its repository, or its Hub id and the files to fetch of it."""
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return (yield from _fetch("dataset", name, patterns))


def _fetch(what: str, hub_id: str, patterns: Sequence[str]) -> Fetching:
    process = subprocess.Popen(
        [sys.executable, "-m", "cdka.models.hub_download", what, hub_id, *patterns],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        best, patience = -1, START_LIMIT_S
        waited = 0.0
        for message in _lines(process):
            if message is None:
                waited += 1.0
            elif "error" in message:
                raise CdkaError(message["error"])
            elif "path" in message:
                return Path(message["path"])
            else:
                yield {"phase": "downloading", **message}
                patience = STALL_LIMIT_S
                if message["done_bytes"] > best:
                    best, waited = message["done_bytes"], 0.0
                else:
                    waited += 0.5
            if waited >= patience:
                raise CdkaError(
                    f"the download of {hub_id!r} stands still: no byte for {patience:.0f} s. Try again; what has "
                    "arrived is kept."
                )
        raise CdkaError(f"the download of {hub_id!r} ended without a word. Try again.")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _lines(process: subprocess.Popen) -> Iterator[dict[str, Any] | None]:
    """What the process prints, and None for each second in which it prints nothing."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        if line.startswith("{"):
            yield json.loads(line)


def finish(fetching: Fetching) -> Path:
    """The folder, once all is here; the progress goes unheard. Raises CdkaError."""
    while True:
        try:
            next(fetching)
        except StopIteration as found:
            return found.value


def locate(name: str) -> Path:
    """The folder with the model's files, after any download it takes. Raises CdkaError."""
    return finish(obtain(name))
