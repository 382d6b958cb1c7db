"""Shapes of models outside the catalogue: a worker process reads config.json, the answer is kept. Free of torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from cdka.errors import CdkaError, nearest
from cdka.models.shapes import ModelShapes
from cdka.paths import home_dir

FETCH_LIMIT_S = 2.7
"""How long the Hub may take to hand out a config.json before we say that it cannot be reached."""
BUILD_LIMIT_S = 120.0
_NEXT_STEP = "Give a local directory with a config.json, or a catalogue name (cdka models)."


def shapes_of_directory(directory: Path, name: str) -> ModelShapes:
    """Shapes of the model saved in ``directory``. Raises CdkaError where its config.json is missing or unusable."""
    config = directory / "config.json"
    if not config.is_file():
        hint = " It holds an adapter; give its base model." if (directory / "adapter_config.json").is_file() else ""
        raise CdkaError(
            f"a model directory needs a config.json: none in {name!r}.{hint} Give the folder of a saved model."
        )
    return _build(config, name, None)


def shapes_of_hub_id(hub_id: str, known_ids: Iterable[str] = ()) -> ModelShapes:
    """Shapes of the model with this Hub id. Raises CdkaError within 3 seconds where it cannot be fetched."""
    kept = _shelf() / (hub_id.replace("/", "--") + ".json")
    if kept.is_file():
        return _build(kept, hub_id, hub_id)
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Path(scratch) / "config.json"
        answer = _ask(["cdka.models.hub_config", hub_id, str(fetched)], FETCH_LIMIT_S)
        problem = answer.get("error") or ("" if "path" in answer else f"the Hub cannot be reached for {hub_id!r}.")
        if problem:
            close = nearest(hub_id, known_ids)
            hint = " Did you mean " + " or ".join(repr(c) for c in close) + "?" if close else ""
            raise CdkaError(f"{problem}{hint} {_NEXT_STEP}")
        shapes = _build(Path(answer["path"]), hub_id, hub_id)
        temporary = kept.with_suffix(".tmp")
        temporary.write_bytes(Path(answer["path"]).read_bytes())
        temporary.replace(kept)
    return shapes


def _shelf() -> Path:
    shelf = home_dir() / "models"
    shelf.mkdir(exist_ok=True)
    return shelf


def _build(config: Path, name: str, hub_id: str | None) -> ModelShapes:
    """Shapes from a config.json, built by a worker once and kept under the digest of the file."""
    from cdka.models.catalogue import FORMAT, from_json

    content = config.read_bytes()
    try:
        if not isinstance(json.loads(content), dict):
            raise ValueError
    except ValueError:
        raise CdkaError(
            f"config.json must be a JSON object: got something else in {name!r}. Save the model again."
        ) from None
    kept = _shelf() / f"shapes-{FORMAT}-{hashlib.sha256(content).hexdigest()[:24]}.json"
    if kept.is_file():
        answer = json.loads(kept.read_text(encoding="utf-8"))
    else:
        answer = _ask(["cdka.train.read_config", str(config), name], BUILD_LIMIT_S)
        if "linears" not in answer:
            raise CdkaError(answer.get("error") or f"reading config.json of {name!r} took too long. {_NEXT_STEP}")
        temporary = kept.with_suffix(".tmp")
        temporary.write_text(json.dumps(answer), encoding="utf-8")
        temporary.replace(kept)
    return replace(from_json(answer), name=name, hub_id=hub_id)


def _ask(module_and_arguments: Sequence[str], limit_s: float) -> dict:
    """The JSON document that a worker prints last; empty where it does not answer in time or at all."""
    command = [sys.executable, "-m", *module_and_arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return {}
