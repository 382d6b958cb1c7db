"""A bundle as a source of a comparison: the same frames as the store gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cdka.compare.bundle.layout import (
    COMPARISON,
    CURVES,
    MANIFEST,
    PREDICTIONS,
    RUNS,
    curves_of_format_1,
    runs_of_format_1,
)
from cdka.compare.comparison import ALL_PAIRS
from cdka.compare.measure import Measure
from cdka.runs.frames import frame
from cdka.runs.run import Run
from cdka.runs.spec import RunSpec


class Bundle:
    """The runs of an unpacked, checked bundle (``check.check`` is what checks it)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest: dict[str, Any] = self._json(MANIFEST)
        self.name: str = self.manifest["name"]
        self._old = self.manifest["version"] == 1
        records = self._json(RUNS)["runs"]
        self.records: list[dict[str, Any]] = runs_of_format_1(records) if self._old else records
        self.claimed: dict[str, Any] = self._json(COMPARISON)
        self._predictions: dict[str, dict[str, list]] = self._json(PREDICTIONS)
        self.choose_lr: bool = self.manifest["choose_lr"]

    def _json(self, name: str) -> Any:
        return json.loads((self.root / name).read_text(encoding="utf-8"))

    def runs(self) -> list[Run]:
        """The records of the runs, as the store would have them."""
        return [
            Run(
                run_id=item["run_id"],
                sweep_id=item["sweep_id"],
                spec=RunSpec.from_dict(item["spec"]),
                status=item["status"],
                phase=None,
                attempt=1,
                step=0,
                num_params=item["num_params"],
                metrics=item["metrics"],
                error=item["error"],
                created_at=item["created_at"],
                started_at=None,
                finished_at=None,
                directory=self.root / "adapters" / item["run_id"],
                worked_s=item["seconds"],
                peak_bytes=item["peak_bytes"],
            )
            for item in self.records
        ]

    def frame(self) -> pd.DataFrame:
        return frame(self.runs())

    def specs(self) -> dict[str, dict[str, Any]]:
        return {item["run_id"]: RunSpec.from_dict(item["spec"]).to_dict() for item in self.records}

    def curves(self, run_ids: Sequence[str]) -> pd.DataFrame:
        found = pd.read_csv(self.root / CURVES, dtype={"run_id": str, "kind": str})
        own = found[found["run_id"].isin(set(run_ids))].reset_index(drop=True)
        return curves_of_format_1(own) if self._old else own

    def predictions(self, run_id: str) -> pd.DataFrame:
        body = self._predictions.get(run_id, {})
        return pd.DataFrame({c: pd.Series(body.get(c, []), dtype=None) for c in ("example", "label", "predicted")})

    def adapter_dir(self, run_id: str) -> Path | None:
        directory = self.root / "adapters" / run_id
        return directory if directory.is_dir() else None

    def versions(self, run_id: str) -> dict[str, str]:
        return next(item["versions"] for item in self.records if item["run_id"] == run_id)

    def errors(self) -> dict[str, str]:
        return {item["run_id"]: item["error"] for item in self.records if item["error"]}

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {item["run_id"]: dict(item["metrics"]) for item in self.records}

    def reference(self) -> str | None:
        """The reference that the claim was made with, to be handed to ``compare``."""
        if self.claimed["all_pairs"]:
            return ALL_PAIRS
        references = self.claimed["references"]
        return references[0] if len(references) == 1 else None

    def measure(self) -> Measure:
        """The measure that the claim was made with."""
        return Measure(self.claimed["metric"], self.claimed["aggregation"], self.claimed["step"])
