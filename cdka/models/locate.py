"""Local folders of models and data sets, downloaded from the Hub where need be. Free of torch.

The downloads themselves run in a child process (``cdka.models.hub``), so that a caller can give up on them or
be cancelled whatever the network does.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from cdka import childproc
from cdka.errors import CdkaError
from cdka.models import gguf
from cdka.models.catalogue import list_models
from cdka.paths import assets_dir, expanded, pasted

STALL_LIMIT_S = 30.0
"""A download that brings no byte for this long is given up."""
SILENCE_LIMIT_S = 20.0
"""A download process that reports nothing for this long is given up; it reports twice a second once it has begun."""

Download = Generator[dict[str, Any], None, Path]
"""Yields ``{"phase": "downloading", "done_bytes", "total_bytes"}`` and returns the folder."""


def local_path(name: str) -> Path | None:
    """The folder of the embedded model, local directory or converted GGUF file called ``name``; None for a Hub id.

    None too for a GGUF file that was not converted yet. Raises CdkaError for a folder that holds no model.
    """
    name = pasted(name)
    embedded = assets_dir() / name
    if "/" not in name and (embedded / "config.json").is_file():
        return embedded
    file = gguf.gguf_file(name)
    if file is not None:
        folder = gguf.converted_folder(file)
        return folder if (folder / "config.json").is_file() else None
    path = expanded(name)
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
    name = pasted(name)
    return next((shapes.hub_id for shapes in list_models() if name == shapes.name and shapes.hub_id), name)


def download_model(name: str) -> Download:
    """The folder of the model's files, downloaded where they are not here. Raises CdkaError.

    A GGUF file is converted, with ``{"phase": "converting", "done", "of"}`` in tensors meanwhile.
    """
    folder = local_path(name)
    if folder is not None:
        return folder
    file = gguf.gguf_file(name)
    if file is not None:
        return (yield from gguf.convert(file))
    return (yield from _download("fetch_model", hub_id_of(name)))


def download_dataset(name: str, patterns: Sequence[str] = ()) -> Download:
    """The folder of a data set: a local copy of its repository, or the files of its Hub id that match ``patterns``.

    A local copy may also be one file.
    """
    name = pasted(name)
    if expanded(name).exists():
        return expanded(name)
    return (yield from _download("fetch_dataset", name, patterns=list(patterns)))


def _download(function: str, hub_id: str, **request: Any) -> Download:
    folder = yield from childproc.stream(
        f"cdka.models.hub:{function}",
        {"hub_id": hub_id, "stall_limit_s": STALL_LIMIT_S, **request},
        silence_limit_s=SILENCE_LIMIT_S,
        failure=f"{hub_id!r} could not be downloaded",
    )
    return Path(folder)


def wait(download: Download) -> Path:
    """The folder of a finished download, its progress left unread. Raises CdkaError."""
    while True:
        try:
            next(download)
        except StopIteration as end:
            return end.value


def locate(name: str) -> Path:
    """The folder with the model's files, downloaded where they are not here. Raises CdkaError."""
    folder = wait(download_model(name))
    for index in folder.glob("*.index.json"):
        check_index(index)
    return folder


def check_index(index: Path) -> None:
    """Raises CdkaError for an index of weights that names a file outside its folder."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CdkaError(
            f"an index of weights must be whole: {str(index)!r} is not. Download the model again."
        ) from None
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name or name in ("..", "")]
    if outside:
        raise CdkaError(
            f"an index of weights names files of its own folder alone: got {str(outside[0])[:80]!r} in {str(index)!r}. "
            "Do not use this model."
        )
