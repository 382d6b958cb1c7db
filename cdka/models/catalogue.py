"""Models known by name, as shapes without weights, and the way to any other model's shapes. Free of torch."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from cdka.errors import CdkaError, unknown
from cdka.models import gguf
from cdka.models.config_shapes import shapes_of_directory, shapes_of_hub_id
from cdka.models.shapes import FORMAT, ModelShapes, from_json
from cdka.paths import assets_dir, pasted


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
    path = Path(name).expanduser()
    if path.is_dir() or path.suffix.lower() == gguf.SUFFIX:
        return shapes_of_directory(path, name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return shapes_of_hub_id(name, [shapes.hub_id for shapes in known if shapes.hub_id])
    if "/" in name or "\\" in name:
        raise CdkaError(f"a model directory must exist: got {name!r}. Give a folder with a config.json, or a Hub id.")
    raise unknown("model", name, names, next_step="List them with: cdka models")
