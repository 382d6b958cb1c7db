"""The format of a claim bundle: its files, the digests that seal it, its plain JSON, and the format 1 of 0.1.0."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cdka.models.catalogue import name_today
from cdka.runs.events import Evaluated, Step
from cdka.runs.frames import CURVE_COLUMNS
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS, TRAIN_LOSS, from_old_names

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
    r"(?:manifest|runs|predictions|comparison)\.json|curves\.csv|README\.txt|methods\.md|reproduce\.(?:py|ipynb|json)"
    r"|tables/[\w-]+\.csv|figures/(?:[\w-]+\.html|plotly\.min\.js)"
    r"|adapters/[\w-]+/(?:adapter_config\.json|adapter_model\.safetensors)"
)
"""Every name a bundle may hold: plain data, text to read, and figures that importing never opens. No pickles."""

README = """This is a claim bundle of CDKA Studio: everything behind one comparison.

  comparison.json   arms, verdicts and trends        methods.md      how it was done, in a paragraph
  runs.json         specifications, seeds, versions, metrics         curves.csv  evaluations and losses along the way
  predictions.json  every test prediction            tables/         the same as CSV        figures/  open in a browser
  reproduce.py      trains the runs of reproduce.json again and prints the table; reproduce.ipynb does the same
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


LARGEST = 2**53
"""Beyond it a number is not the same in every reader of JSON."""
MAX_TEXT = 100_000
MAX_DEPTH = 32
_SCALARS = (int, float, bool, str, type(None))
_METRIC = re.compile(r"[A-Za-z][\w./ -]{0,99}")
_PATTERN = re.compile(r"[\w.*+?^$|()\[\]\\-]{1,200}")
_MAX_REPEATS = 3
_NUMBERS = ("accuracy", "loss", "step", "examples", "_s")
_UNREADABLE = re.compile("[\ud800-\udfff]")


def check_plain(value: Any, fail: Callable[[str, str], Exception], path: str = "", depth: int = 0) -> None:
    """Raises ``fail(path, rule)`` at the first value that is not finite, bounded, readable data."""
    if isinstance(value, dict):
        if depth == MAX_DEPTH:
            raise fail(path, f"is nested more than {MAX_DEPTH} deep")
        for key, item in value.items():
            _check_scalar(key, fail, f"{path} (a name in it)".strip())
            check_plain(item, fail, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        if depth == MAX_DEPTH:
            raise fail(path, f"is nested more than {MAX_DEPTH} deep")
        for i, item in enumerate(value):
            if isinstance(item, _SCALARS):
                if item.__class__ is not int or not -LARGEST < item < LARGEST:
                    _check_scalar(item, fail, f"{path}[{i}]")
            else:
                check_plain(item, fail, f"{path}[{i}]", depth + 1)
    else:
        _check_scalar(value, fail, path)


def _check_scalar(value: Any, fail: Callable[[str, str], Exception], path: str) -> None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise fail(path, f"holds {len(value):,} characters, at most {MAX_TEXT:,} are read")
        if _UNREADABLE.search(value):
            raise fail(path, "is not readable text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise fail(path, "must be a finite number")
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise fail(path, "is a number too large to be exact")


def check_metrics(metrics: dict[str, Any], fail: Callable[[str, str], Exception], path: str) -> None:
    """Raises ``fail`` for a metric without a plain name, and for an accuracy or a loss that is no number."""
    for name, value in metrics.items():
        if not _METRIC.fullmatch(name):
            raise fail(f"{path}.{name[:60]}", "is no plain name of a metric")
        if not isinstance(value, int | float | bool | str | None):
            raise fail(f"{path}.{name}", "must be a number or text")
        numeric = "/" in name or name.endswith(_NUMBERS) or name in ("steps_done", "unparsed")
        if numeric and (isinstance(value, bool | str)):
            raise fail(f"{path}.{name}", f"must be a number, got {type(value).__name__}")


def check_patterns(config: dict[str, Any], fail: Callable[[str, str], Exception]) -> None:
    """Raises ``fail`` where a pattern of layer names could keep a reader's regular expressions busy for hours."""
    for name in ("alpha_pattern", "rank_pattern", "component_pattern"):
        found = config.get(name) or {}
        if not isinstance(found, dict):
            raise fail(name, "must be an object")
        for key in found:
            endless = re.search(r"\)[*+]", key) or len(re.findall(r"[*+]", key)) > _MAX_REPEATS
            if endless or not _PATTERN.fullmatch(key):
                raise fail(f"{name}.{key[:60]}", "is no plain pattern of layer names")


OLD_CURVE_COLUMNS = (
    "run_id",
    "kind",
    "step",
    "samples",
    "tokens",
    "elapsed_s",
    "accuracy",
    "loss",
    "lr",
    "grad_norm",
)


def runs_of_format_1(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with their metrics and base models renamed; everything else is as it was."""
    return [
        {
            **run,
            "metrics": from_old_names(run["metrics"]),
            "spec": {**run["spec"], "model": name_today(run["spec"]["model"], "0.1.0")},
        }
        for run in runs
    ]


def curves_of_format_1(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with one column for each metric: a loss was that of the batch or of validation, by the row's kind."""
    evaluated, step = curves["kind"] == Evaluated.kind, curves["kind"] == Step.kind
    named = curves.assign(
        **{
            TRAIN_LOSS: curves["loss"].where(step),
            EVAL_ACCURACY: curves["accuracy"].where(evaluated),
            EVAL_LOSS: curves["loss"].where(evaluated),
        }
    )
    return named[list(CURVE_COLUMNS)]
