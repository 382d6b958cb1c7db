"""The layout of a claim bundle, and the digests that seal it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT, VERSION = "cdka-claim-bundle", 2
VERSIONS = (1, 2)
"""The versions that are read. In version 1 metrics had the names of 0.1.0 (``translate``)."""
MANIFEST, RUNS, PREDICTIONS, CURVES, COMPARISON = (
    "manifest.json",
    "runs.json",
    "predictions.json",
    "curves.csv",
    "comparison.json",
)
REQUIRED = (RUNS, PREDICTIONS, CURVES, COMPARISON)
ALLOWED = re.compile(
    r"(?:manifest|runs|predictions|comparison)\.json|curves\.csv|README\.txt|methods\.md|reproduce\.(?:py|ipynb)"
    r"|tables/[\w-]+\.csv|figures/(?:[\w-]+\.html|plotly\.min\.js)"
    r"|adapters/[\w-]+/(?:adapter_config\.json|adapter_model\.safetensors)"
)
"""Every name a bundle may hold: plain data, text to read, and figures that importing never opens. No pickles."""

README = """This is a claim bundle of CDKA Studio: everything behind one comparison.

  comparison.json   arms, verdicts and trends        methods.md      how it was done, in a paragraph
  runs.json         specifications, seeds, versions, metrics         curves.csv  evaluations and losses along the way
  predictions.json  every test prediction            tables/         the same as CSV        figures/  open in a browser
  reproduce.py      trains the same runs again and prints the table; reproduce.ipynb is the same as a notebook
  adapters/         the trained adapters, in PEFT's format

See it:  cdka compare THIS_FILE.zip, or Import on the Studio's Compare page.
Importing checks every file against manifest.json and computes the comparison again from the runs. It runs nothing.
The digests protect against damage and careless edits. They are not a signature: they do not say who made this file.
"""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fields(name: str, document: Any) -> dict[str, str]:
    """A short digest per field of one of the JSON files, so that an edit can be named; see ``walk``."""
    return {
        path: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
        for path, value in walk(document, depth=4 if name != PREDICTIONS else 2)
    }


def walk(document: Any, path: str = "", depth: int = 4) -> Iterator[tuple[str, Any]]:
    """(path, value) of each field down to ``depth``: ``runs[3].spec.lr``."""
    if depth and isinstance(document, dict) and document:
        for key, value in document.items():
            yield from walk(value, f"{path}.{key}" if path else str(key), depth - 1)
    elif depth and isinstance(document, list) and document and isinstance(document[0], dict):
        for i, value in enumerate(document):
            yield from walk(value, f"{path}[{i}]", depth - 1)
    else:
        yield path, document


def first_difference(ours: Any, theirs: Any, path: str = "") -> str | None:
    """The path of the first place where two JSON documents differ (numbers to 1e-9), None where they do not."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            here = f"{path}.{key}" if path else str(key)
            if key not in ours or key not in theirs:
                return here
            found = first_difference(ours[key], theirs[key], here)
            if found is not None:
                return found
        return None
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return path
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next((d for i, (a, b) in pairs if (d := first_difference(a, b, f"{path}[{i}]")) is not None), None)
    if _number(ours) and _number(theirs):
        return None if abs(ours - theirs) <= 1e-9 * max(1.0, abs(ours), abs(theirs)) else path
    return None if ours == theirs else path


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
