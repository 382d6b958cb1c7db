"""Refuse a bundle that is not whole: wrong names, sizes, digests, types, or numbers that its own runs contradict.

Nothing from a bundle is executed, imported or unpickled. A refusal names the file and, where it can, the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors

from cdka.compare.bundle.layout import (
    ALLOWED,
    COMPARISON,
    CURVES,
    FORMAT,
    MANIFEST,
    OLD_CURVE_COLUMNS,
    PREDICTIONS,
    REQUIRED,
    RUNS,
    VERSION,
    VERSIONS,
    check_metrics,
    check_patterns,
    check_plain,
    fields,
    first_difference,
    sha256,
)
from cdka.compare.bundle.read import Bundle
from cdka.compare.comparison import compare
from cdka.compare.report import document
from cdka.errors import CdkaError
from cdka.runs.events import Evaluated, Step
from cdka.runs.frames import CURVE_COLUMNS
from cdka.runs.metrics import TEST_ACCURACY
from cdka.runs.run import check_id
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.stats.intervals import FLAT, UNBOUNDED

_FURTHER_SCORE = re.compile(r"eval/[a-z0-9_]{1,40}")
_RUN_FIELDS = {
    "run_id": str,
    "sweep_id": str | None,
    "spec": dict,
    "status": str,
    "num_params": int | None,
    "metrics": dict,
    "error": str | None,
    "created_at": int | float,
    "seconds": int | float | None,
    "peak_bytes": int | None,
    "versions": dict,
    "from_predictions": bool,
}
_MANIFEST_FIELDS = {
    "format": str,
    "version": int,
    "name": str,
    "created_at": int | float,
    "cdka_version": str,
    "choose_lr": bool,
    "files": dict,
    "fields": dict,
}


_FOLLOWS = {
    "arms": (
        "label",
        "method",
        "components",
        "num_params",
        "seeds",
        "seed_list",
        "mean",
        "sd",
        "ci_low",
        "ci_high",
        "pareto",
    ),
    "verdicts": ("a", "b", "verdict", "difference", "ci_low", "ci_high", "p", "p_holm", "n", "more_seeds"),
    "trends": ("factor", "finding", "levels", "n", "slope", "ci_low", "ci_high", "p"),
}
"""The part of a claim that is computed again from its runs and must come out the same."""


def refuse(file: str, field: str, rule: str) -> CdkaError:
    """The error for a bundle that is not whole."""
    place = f"{_short(file)}, field {_short(field)}" if field else _short(file)
    message = f"the bundle is damaged or was edited: {place}: {_short(rule)}"
    return CdkaError(f"{message}. Ask its sender for a fresh export.")


def _short(text: str, most: int = 240) -> str:
    """One line of bounded length, whatever the bundle holds."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= most else line[: most - 1] + "…"


def check(root: Path) -> Bundle:
    """The bundle unpacked at ``root``, after checking all of it. Raises CdkaError naming the file and field."""
    manifest = _load(root, MANIFEST)
    _typed(MANIFEST, "", manifest, _MANIFEST_FIELDS)
    if manifest["format"] != FORMAT or manifest["version"] not in VERSIONS:
        raise refuse(MANIFEST, "format", _wrong_format(manifest))
    _files(root, manifest)
    documents = {name: _load(root, name) for name in (RUNS, PREDICTIONS, COMPARISON)}
    for name, found in documents.items():
        _fields(name, found, manifest["fields"].get(name))
    for name, entry in manifest["files"].items():
        if sha256(root / name) != entry.get("sha256"):
            raise refuse(name, "", "its content differs from the sha256 in manifest.json")
    _runs(documents[RUNS])
    runs = documents[RUNS]["runs"]
    old = manifest["version"] == 1
    _predictions(runs, documents[PREDICTIONS], "accuracy" if old else TEST_ACCURACY)
    _curves(root / CURVES, {item["run_id"] for item in runs}, OLD_CURVE_COLUMNS if old else CURVE_COLUMNS)
    _adapters(root)
    bundle = Bundle(root)
    _recompute(bundle, documents[COMPARISON])
    return bundle


def _wrong_format(manifest: dict[str, Any]) -> str:
    if manifest["format"] == FORMAT and manifest["version"] > VERSION:
        return f"version {manifest['version']} is newer than this program, which reads up to {VERSION}; upgrade it"
    return f"must be {FORMAT} version 1 to {VERSION}, got {manifest['format']!r} version {manifest['version']}"


def _load(root: Path, name: str) -> Any:
    try:
        found = json.loads((root / name).read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise refuse(name, "", "it is missing") from None
    except (ValueError, RecursionError) as error:
        raise refuse(name, "", f"it is not valid JSON ({error})") from None
    check_plain(found, partial(refuse, name))
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _typed(file: str, path: str, item: Any, wanted: dict[str, Any]) -> None:
    if not isinstance(item, dict):
        raise refuse(file, path, f"must be an object, got {type(item).__name__}")
    for key, kind in wanted.items():
        here = f"{path}.{key}" if path else key
        if key not in item:
            raise refuse(file, here, "is missing")
        value = item[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise refuse(file, here, f"has the wrong type, {type(value).__name__}")
    for key in item:
        if key not in wanted:
            raise refuse(file, f"{path}.{key}" if path else key, "is unknown")


def _files(root: Path, manifest: dict[str, Any]) -> None:
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {MANIFEST}
    for name, entry in manifest["files"].items():
        if not ALLOWED.fullmatch(name):
            raise refuse(MANIFEST, f"files.{name}", "a bundle holds no such file")
        if name not in there:
            raise refuse(name, "", "it is missing")
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise refuse(MANIFEST, f"files.{name}.sha256", "is missing")
    for name in sorted(there - set(manifest["files"])):
        raise refuse(name, "", "it is not listed in manifest.json")
    for name in REQUIRED:
        if name not in manifest["files"]:
            raise refuse(name, "", "it is missing")


def _fields(name: str, found: Any, sealed: Any) -> None:
    ours = fields(name, found)
    if not isinstance(sealed, dict):
        raise refuse(MANIFEST, f"fields.{name}", "is missing")
    for path, digest in ours.items():
        if sealed.get(path) != digest:
            raise refuse(name, path, "its value differs from what was sealed in manifest.json")
    for path in sealed:
        if path not in ours:
            raise refuse(name, path, "is missing")


def _runs(found: Any) -> None:
    if not isinstance(found, dict) or not isinstance(found.get("runs"), list) or not found["runs"]:
        raise refuse(RUNS, "runs", "must be a list of runs")
    seen = set()
    for i, item in enumerate(found["runs"]):
        path = f"runs[{i}]"
        _typed(RUNS, path, item, _RUN_FIELDS)
        try:
            check_id(item["run_id"])
            whole = RunSpec.from_dict(item["spec"]).to_dict()
        except (CdkaError, TypeError, AttributeError, ValueError, OverflowError, KeyError) as error:
            raise refuse(RUNS, f"{path}.spec", str(error)) from None
        odd = next((key for key, value in whole.items() if item["spec"].get(key, value) != value), None)
        if odd is not None:
            raise refuse(RUNS, f"{path}.spec.{odd}", "has the wrong type")
        if item["run_id"] in seen:
            raise refuse(RUNS, f"{path}.run_id", f"{item['run_id']!r} occurs twice")
        seen.add(item["run_id"])
        if item["status"] not in tuple(RunState):
            raise refuse(RUNS, f"{path}.status", f"{item['status']!r} is no status")
        check_metrics(item["metrics"], partial(refuse, RUNS), f"{path}.metrics")
        for name, version in item["versions"].items():
            if not isinstance(version, str):
                raise refuse(RUNS, f"{path}.versions.{name}", "must be text")


def _predictions(runs: list[dict[str, Any]], found: Any, metric: str) -> None:
    if not isinstance(found, dict):
        raise refuse(PREDICTIONS, "", "must be an object")
    known = {item["run_id"]: i for i, item in enumerate(runs)}
    for run_id, body in found.items():
        if run_id not in known:
            raise refuse(PREDICTIONS, run_id, "belongs to no run of runs.json")
        columns = [body.get(key) for key in ("example", "label", "predicted")] if isinstance(body, dict) else [None]
        if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
            raise refuse(PREDICTIONS, run_id, "example, label and predicted must be lists of one length")
        i = known[run_id]
        if runs[i]["from_predictions"]:
            right = sum(p is not None and p == label for label, p in zip(columns[1], columns[2], strict=True))
            accuracy = runs[i]["metrics"].get(metric)
            if not isinstance(accuracy, int | float) or abs(accuracy - right / len(columns[1])) > 1e-6:
                raise refuse(
                    RUNS,
                    f"runs[{i}].metrics.{metric}",
                    f"{accuracy!r} contradicts predictions.json, where {right} of {len(columns[1])} are right",
                )


def _curves(path: Path, run_ids: set[str], columns: Sequence[str]) -> None:
    try:
        found = pd.read_csv(path, dtype={"run_id": str, "kind": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise refuse(CURVES, "", f"it is not a table ({error})") from None
    known, further = list(found.columns[: len(columns)]), found.columns[len(columns) :]
    if known != list(columns) or not all(_FURTHER_SCORE.fullmatch(name) for name in further):
        raise refuse(CURVES, "header", f"must be {', '.join(columns)}, and further scores such as eval/f1")
    for column in found.columns[2:]:
        if len(found) and not pd.api.types.is_numeric_dtype(found[column]):
            raise refuse(CURVES, column, "must hold numbers")
    kinds = {Step.kind, Evaluated.kind}
    for column, allowed in (("run_id", set(run_ids)), ("kind", kinds)):
        strange = set(found[column]) - allowed
        if strange:
            raise refuse(CURVES, column, f"{sorted(map(str, strange))[0]!r} is not known")


def _adapters(root: Path) -> None:
    for path in sorted(root.glob("adapters/*/*")):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".json":
            config = _load(root, name)
            if not isinstance(config, dict):
                raise refuse(name, "", "must be an object")
            check_patterns(config, partial(refuse, name))
            continue
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                file.keys()
        except (OSError, safetensors.SafetensorError) as error:
            raise refuse(name, "", f"it is not a safetensors file ({error})") from None


def _recompute(bundle: Bundle, claimed: Any) -> None:
    """The claim must follow from the runs."""
    try:
        ours = document(compare(bundle, bundle.measure(), bundle.reference(), choose_lr=bundle.choose_lr))
    except KeyError as error:
        raise refuse(COMPARISON, str(error).strip("'"), "is missing") from None
    except (CdkaError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise refuse(COMPARISON, "", f"the comparison cannot be computed again ({error})") from None
    for part, keys in _FOLLOWS.items():
        bounds = bundle.measure().bounds if part == "arms" else UNBOUNDED
        theirs = _with_bounds(_only(claimed.get(part), keys), bounds)
        where = first_difference(_only(ours[part], keys), theirs, part)
        if where is not None:
            raise refuse(COMPARISON, where, "does not follow from the runs")


def _with_bounds(rows: Any, bounds: tuple[float, float]) -> Any:
    """Claims of version 0.1.0, whose intervals could leave 0 to 1, or have no width, with ends as they are today."""
    for row in rows if isinstance(rows, list) else ():
        ends = [row.get("ci_low"), row.get("ci_high")] if isinstance(row, dict) else []
        if len(ends) == 2 and all(type(end) is float for end in ends):
            flat = ends[1] - ends[0] <= FLAT * max(map(abs, ends))
            row["ci_low"], row["ci_high"] = (None if flat else min(max(end, bounds[0]), bounds[1]) for end in ends)
    return rows


def _only(rows: Any, keys: tuple[str, ...]) -> Any:
    """The parts that must follow, without the words that a later version may put otherwise."""
    if not isinstance(rows, list):
        return rows
    return [{key: row.get(key) for key in keys} if isinstance(row, dict) else row for row in rows]
