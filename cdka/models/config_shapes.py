"""Shapes of models outside the catalogue: a child process reads config.json, the answer is kept. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cdka import childproc
from cdka.errors import CdkaError, nearest
from cdka.models import gguf
from cdka.models.shapes import FORMAT, ModelShapes, from_json
from cdka.paths import home_dir, write_atomically

FETCH_LIMIT_S = 2.7
"""Time that the Hub may take to give a config.json before it counts as unreachable."""
BUILD_LIMIT_S = 120.0
READING = 2
"""Raised whenever a config.json is read differently, so that what was kept before is not used."""
_NEXT_STEP = "Give a local directory with a config.json, or a catalogue name (cdka models)."


def shapes_of_directory(directory: Path, name: str) -> ModelShapes:
    """Shapes of the model saved in ``directory``, or in a GGUF file, which is converted where it was not yet.

    Raises CdkaError where its config.json is missing or unusable.
    """
    file = gguf.gguf_file(str(directory))
    if file is not None:
        directory = gguf.converted(file)
    config = directory / "config.json"
    if not config.is_file():
        hint = " It holds an adapter; give its base model." if (directory / "adapter_config.json").is_file() else ""
        raise CdkaError(
            f"a model directory needs a config.json: none in {name!r}.{hint} Give the folder of a saved model."
        )
    return _build(config, name, None)


def shapes_of_hub_id(hub_id: str, known_ids: Iterable[str] = ()) -> ModelShapes:
    """Shapes of the model with this Hub id. Raises CdkaError within 3 seconds where it cannot be fetched."""
    kept = _cache_dir() / (hub_id.replace("/", "--") + ".json")
    if kept.is_file():
        return _build(kept, hub_id, hub_id)
    try:
        fetched = childproc.call(
            "cdka.models.hub_client:fetch_config",
            {"hub_id": hub_id},
            limit_s=FETCH_LIMIT_S,
            failure=f"the Hub cannot be reached for {hub_id!r}",
        )
    except CdkaError as error:
        close = nearest(hub_id, known_ids)
        hint = " Did you mean " + " or ".join(repr(c) for c in close) + "?" if close else ""
        raise CdkaError(f"{error}{hint} {_NEXT_STEP}") from None
    shapes = _build(Path(fetched), hub_id, hub_id)
    write_atomically(kept, Path(fetched).read_text(encoding="utf-8"))
    return shapes


def _cache_dir() -> Path:
    folder = home_dir() / "models"
    folder.mkdir(exist_ok=True)
    return folder


def _build(config: Path, name: str, hub_id: str | None) -> ModelShapes:
    """Shapes from a config.json, built by a child process once and kept under the digest of the file."""
    content = config.read_bytes()
    try:
        if not isinstance(json.loads(content), dict):
            raise ValueError
    except ValueError:
        raise CdkaError(
            f"config.json must be a JSON object: got something else in {name!r}. Save the model again."
        ) from None
    kept = _cache_dir() / f"shapes-{FORMAT}.{READING}-{hashlib.sha256(content).hexdigest()[:24]}.json"
    if kept.is_file():
        answer = json.loads(kept.read_text(encoding="utf-8"))
    else:
        answer = childproc.call(
            "cdka.train.read_config:read",
            {"config": str(config), "name": name},
            limit_s=BUILD_LIMIT_S,
            failure=f"config.json of {name!r} cannot be built",
        )
        write_atomically(kept, json.dumps(answer))
    return replace(from_json(answer), name=name, hub_id=hub_id)
