"""Write a claim bundle: everything behind one comparison, sealed."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from cdka import __version__
from cdka.compare.bundle import layout
from cdka.compare.comparison import Comparison
from cdka.compare.report import document, methods_paragraph
from cdka.compare.source import Source
from cdka.plain_json import finite
from cdka.runs.frames import CURVE_COLUMNS, csv
from cdka.runs.metrics import TEST_ACCURACY

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def write_bundle(
    comparison: Comparison,
    source: Source,
    target: Path,
    *,
    figures: bool = True,
    adapters: Collection[str] | None = None,
) -> Path:
    """``target``, a new zip file. Full fine-tuning's models are left out: they are no adapters (README.txt says so).

    ``adapters`` names the runs whose adapters are put in, all by default.

    The file is written beside ``target`` and moved into place when whole, so a failure leaves nothing behind.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root, comparison, source, figures=figures, adapters=adapters)
        part = target.with_name(target.name + ".part")
        try:
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
                for path in sorted(root.rglob("*")):
                    if path.is_file():
                        file.write(path, path.relative_to(root).as_posix())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return target


def fill(
    root: Path, comparison: Comparison, source: Source, *, figures: bool, adapters: Collection[str] | None = None
) -> None:
    """Write all files of the bundle under ``root``, the manifest last."""
    from cdka.compare.exports.figures import write_figures
    from cdka.compare.exports.script import write_reproduction

    run_ids = comparison.frame["run_id"].to_list()
    predictions = {run_id: found for run_id in run_ids if (found := _predictions(source, run_id))}
    documents = {
        layout.RUNS: {"runs": _runs(comparison, source, predictions)},
        layout.PREDICTIONS: predictions,
        layout.COMPARISON: document(comparison),
    }
    for name, content in documents.items():
        found = finite(content)
        indent = None if name == layout.PREDICTIONS else 1  # a line per answer would be a file of millions of lines
        _text(root / name, json.dumps(found, indent=indent, ensure_ascii=False, allow_nan=False))
    (root / layout.CURVES).write_bytes(csv(_curves(source.curves(run_ids))))
    _tables(root / "tables", comparison)
    _text(root / "methods.md", methods_paragraph(comparison, source) + "\n")
    write_reproduction(root, comparison, source)
    _text(root / "README.txt", layout.README)
    for run_id in run_ids if adapters is None else adapters:
        _adapter(source.adapter_dir(run_id), root / "adapters" / run_id)
    if figures:
        write_figures(root / "figures", comparison, source)
    files = {
        path.relative_to(root).as_posix(): {"sha256": layout.sha256(path), "bytes": path.stat().st_size}
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "format": layout.FORMAT,
        "version": layout.VERSION,
        "name": comparison.name,
        "created_at": time.time(),
        "cdka_version": __version__,
        "choose_lr": comparison.chosen_lr,
        "files": files,
        "fields": {name: layout.fields(name, json.loads((root / name).read_text())) for name in documents},
    }
    _text(root / layout.MANIFEST, json.dumps(manifest, indent=1))


def _curves(found: pd.DataFrame) -> pd.DataFrame:
    """The curves in the order of ``CURVE_COLUMNS``, further scores behind."""
    return found.reindex(columns=list(dict.fromkeys([*CURVE_COLUMNS, *found.columns])))


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value


def _predictions(source: Source, run_id: str) -> dict[str, list]:
    found = source.predictions(run_id)
    return {} if found.empty else {column: [_plain(v) for v in found[column]] for column in found.columns}


def _runs(comparison: Comparison, source: Source, predictions: dict[str, dict[str, list]]) -> list[dict[str, Any]]:
    specs, errors, metrics = source.specs(), source.errors(), source.metrics()
    rows = []
    for row in comparison.frame.to_dict("records"):
        run_id = row["run_id"]
        found = predictions.get(run_id)
        right = (
            [p is not None and p == label for label, p in zip(found["label"], found["predicted"], strict=True)]
            if found
            else []
        )
        accuracy = metrics[run_id].get(TEST_ACCURACY)
        rows.append(
            {
                "run_id": run_id,
                "spec": specs[run_id],
                "error": errors.get(run_id),
                **{
                    key: _plain(row[key])
                    for key in ("sweep_id", "status", "num_params", "created_at", "seconds", "peak_bytes")
                },
                "metrics": metrics[run_id],
                "versions": source.versions(run_id),
                "from_predictions": bool(right)
                and isinstance(accuracy, int | float)
                and abs(accuracy - sum(right) / len(right)) <= 1e-6,
            }
        )
    return rows


def _tables(root: Path, comparison: Comparison) -> None:
    root.mkdir()
    (root / "arms.csv").write_bytes(csv(comparison.arms.drop(columns="arm")))
    labels = comparison.labels
    for name, found in (("verdicts", comparison.verdicts), ("trends", comparison.trends)):
        named = found.assign(**{side: found[side].map(labels) for side in "ab" if side in found.columns})
        (root / f"{name}.csv").write_bytes(csv(named))
    (root / "runs.csv").write_bytes(csv(comparison.frame.drop(columns="arm")))


def _adapter(directory: Path | None, target: Path) -> None:
    if directory is None or not all((directory / name).is_file() for name in ADAPTER_FILES):
        return
    target.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(directory / name, target / name)
