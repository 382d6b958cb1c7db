"""Models known by name, as shapes without weights, and any other model's shapes, read from its config.json."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdka import childproc
from cdka.errors import CdkaError, nearest, unknown
from cdka.models import gguf
from cdka.models.shapes import FORMAT, ModelShapes, from_json
from cdka.paths import assets_dir, expanded, home_dir, pasted, write_atomically

FETCH_LIMIT_S = 2.7
"""Time that the Hub may take to give a config.json before it counts as unreachable."""
BUILD_LIMIT_S = 120.0
READING = 3
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
            "cdka.models.hub:fetch_config",
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
    check_config(json.loads(content), name)
    kept = _cache_dir() / f"shapes-{FORMAT}.{READING}-{hashlib.sha256(content).hexdigest()[:24]}.json"
    if kept.is_file():
        answer = json.loads(kept.read_text(encoding="utf-8"))
    else:
        answer = childproc.call(
            "cdka.train.read_shapes:read",
            {"config": str(config), "name": name},
            limit_s=BUILD_LIMIT_S,
            failure=f"config.json of {name!r} cannot be built",
        )
        write_atomically(kept, json.dumps(answer))
    return replace(from_json(answer), name=name, hub_id=hub_id)


_COUNTS = re.compile(r"(layer|block|depth|expert|head|stage|repeat)", re.IGNORECASE)
_SIZES = re.compile(r"(size|dim|width|channel|d_model|d_ff|d_kv|length)", re.IGNORECASE)
MAX_COUNT, MAX_SIZE = 10_000, 1 << 28
"""Layers, heads or experts, and features, of the largest model that a config.json may describe."""


def check_config(config: Any, name: str, where: str = "") -> None:
    """Raises CdkaError for a number in a config.json that no model has: building it would never end."""
    items = config.items() if isinstance(config, dict) else ((where, one) for one in config)
    for key, value in items:
        if isinstance(value, dict | list):
            check_config(value, name, str(key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            largest = MAX_COUNT if _COUNTS.search(str(key)) else MAX_SIZE if _SIZES.search(str(key)) else 1e30
            if not abs(value) <= largest and not ("head" in str(key) and abs(value) <= MAX_SIZE):
                raise CdkaError(
                    f"{str(key)[:60]} in config.json must be a number that a model has: got {value:g} in {name!r}, at "
                    f"most {largest:,.0f}. Save the model again."
                )


@lru_cache(maxsize=4)
def _read(path: str, changed_ns: int) -> tuple[ModelShapes, ...]:
    del changed_ns  # part of the key only: a rebuilt catalogue is read again
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    if document.get("format") != FORMAT:
        raise CdkaError(
            f"models.json must have format {FORMAT}: got {document.get('format')!r}. Rebuild the catalogue."
        )
    return tuple(from_json(entry) for entry in document["models"])


def list_models() -> list[ModelShapes]:
    """Every model of the catalogue, embedded ones first."""
    path = assets_dir() / "models.json"
    try:
        return list(_read(str(path), path.stat().st_mtime_ns))
    except FileNotFoundError:
        raise CdkaError(
            f"the model catalogue is missing: no {path.name} in the assets. Reinstall cdka-studio."
        ) from None


RENAMED = {("0.1", "digits-vit"): "digits-vit@2602"}
"""By the version (major and minor) and the name that a model had in it: its name today."""


def name_today(model: str, version: str) -> str:
    """The name of a model that runs of ``version`` called ``model``: ``digits-vit`` of 0.1 is another checkpoint today.

    >>> name_today("digits-vit", "0.1.0"), name_today("digits-vit", "0.2.0"), name_today("math-lm", "0.1.0")
    ('digits-vit@2602', 'digits-vit', 'math-lm')
    """
    return RENAMED.get((".".join(version.split(".")[:2]), model), model)


def find_model(name: str) -> ModelShapes:
    """The shapes of a model: a catalogue name, a Hub id, or a local directory with a config.json.

    Catalogue names and the Hub ids listed there cost nothing; for anything else only config.json is read, in a
    process of its own, and the answer is kept for next time. Raises CdkaError, with the nearest names, within 3
    seconds where the model is unknown or the Hub cannot be reached.
    """
    if not isinstance(name, str) or not name.strip():
        raise CdkaError(f"a model is a catalogue name, a Hub id or a directory: got {name!r}. List them: cdka models")
    name = pasted(name)
    known = list_models()
    for shapes in known:
        if name in (shapes.name, shapes.hub_id):
            return shapes
    names = [shapes.name for shapes in known if "@" not in shapes.name]  # other trainings of a model are no spellings
    path = expanded(name)
    if path.is_dir() or path.suffix.lower() == gguf.SUFFIX:
        return shapes_of_directory(path, name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return shapes_of_hub_id(name, [shapes.hub_id for shapes in known if shapes.hub_id])
    if "/" in name or "\\" in name:
        raise CdkaError(f"a model directory must exist: got {name!r}. Give a folder with a config.json, or a Hub id.")
    raise unknown("model", name, names, next_step="List them with: cdka models")
