"""The result of a measurement as plain data and as tables. Free of torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.align.request import AlignRequest
from cdka.errors import CdkaError
from cdka.paths import write_atomically

if TYPE_CHECKING:
    import pandas as pd

OVERALL_COLUMNS = (
    "r1",
    "r2",
    "r",
    "num_params",
    "predicted",
    "predicted_by_energy",
    "expected_step",
    "measured",
    "measured_sd",
    "best",
)
LAYER_COLUMNS = ("path", "r1", "r2", "r", "predicted", "measured", "measured_sd", "best")
SPECTRUM_COLUMNS = ("path", "out_features", "in_features", "energy", "effective_rank", "stable_rank")


@dataclass(frozen=True)
class AlignRecord:
    """The measured alignments: rows by OVERALL_COLUMNS, LAYER_COLUMNS and SPECTRUM_COLUMNS.

    ``predicted`` weighs every module the same, as the solver does; the others weigh it by its gradient's energy.
    ``expected_step`` is the finer formula for a plain gradient step (``expected_step_alignment``); ``measured`` is the
    mean over initialisations, ``measured_sd`` their spread; ``best`` is the largest capture that any A_i could have
    (SVD of the rearranged gradient).
    """

    request: AlignRequest
    overall: tuple[tuple, ...]
    layers: tuple[tuple, ...]
    spectra: tuple[tuple, ...]
    sampled_modules: int
    target_modules: int

    def overall_frame(self) -> pd.DataFrame:
        """One row per (r1, r2, r)."""
        return _frame(self.overall, OVERALL_COLUMNS)

    def layers_frame(self) -> pd.DataFrame:
        """One row per layer and (r1, r2, r)."""
        return _frame(self.layers, LAYER_COLUMNS)

    def spectra_frame(self) -> pd.DataFrame:
        """One row per layer: shape, gradient energy (squared norm), effective and stable rank."""
        return _frame(self.spectra, SPECTRUM_COLUMNS)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_json`` is its inverse."""
        return {
            "request": self.request.to_dict(),
            "overall": [dict(zip(OVERALL_COLUMNS, row, strict=True)) for row in self.overall],
            "layers": {"columns": list(LAYER_COLUMNS), "rows": [list(row) for row in self.layers]},
            "spectra": {"columns": list(SPECTRUM_COLUMNS), "rows": [list(row) for row in self.spectra]},
            "sampled_modules": self.sampled_modules,
            "target_modules": self.target_modules,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> AlignRecord:
        """The record that ``to_json`` wrote."""
        return cls(
            request=AlignRequest.from_dict(document["request"]),
            overall=tuple(tuple(row[name] for name in OVERALL_COLUMNS) for row in document["overall"]),
            layers=tuple(tuple(row) for row in document["layers"]["rows"]),
            spectra=tuple(tuple(row) for row in document["spectra"]["rows"]),
            sampled_modules=document["sampled_modules"],
            target_modules=document["target_modules"],
        )

    def write(self, path: Path) -> None:
        """Store as one JSON file, all or nothing."""
        write_atomically(path, json.dumps(self.to_json()))

    @classmethod
    def read(cls, path: Path) -> AlignRecord:
        """The record stored by ``write``. Raises CdkaError where the file is not one."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            raise CdkaError(
                f"an alignment record must be readable: {path.name} is not. Delete it and measure again."
            ) from None


def _frame(rows: tuple[tuple, ...], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns))
