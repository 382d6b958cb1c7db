"""The result of a measurement as plain data and as tables, and the files that a measurement leaves in the home."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.align.request import AlignRequest
from cdka.errors import CdkaError
from cdka.paths import home_dir, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
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


def align_dir() -> Path:
    """The folder of all files of the lab, created if absent."""
    folder = home_dir() / "align"
    folder.mkdir(exist_ok=True)
    return folder


def record_file(request: AlignRequest) -> Path:
    """The file of the finished measurement."""
    return align_dir() / f"record-{request.key}.json"


def status_file(request: AlignRequest) -> Path:
    """The file in which the measuring process writes its progress."""
    return align_dir() / f"state-{request.key}.json"


def log_file(request: AlignRequest) -> Path:
    """The log of the measuring process."""
    return align_dir() / f"log-{request.key}.txt"


def gradient_file(request: AlignRequest) -> Path:
    """The file of the measured gradients; requests that differ in their grid alone share it."""
    return align_dir() / f"gradients-{request.gradient_key}.npz"


def write_status(request: AlignRequest, status: dict[str, Any]) -> None:
    """Replace the stored status: ``pid`` and ``started`` of the process, and ``phase`` and ``share``, or ``cause``."""
    write_atomically(status_file(request), json.dumps(status))


def save_gradients(request: AlignRequest, gradients: Mapping[str, np.ndarray]) -> None:
    """Store the gradients, all or nothing."""
    import numpy as np

    file = gradient_file(request)
    temporary = file.with_name(f"{file.stem}.{os.getpid()}.tmp.npz")
    np.savez(temporary, allow_pickle=False, **dict(gradients))
    temporary.replace(file)


def load_gradients(request: AlignRequest) -> dict[str, np.ndarray] | None:
    """The stored gradients, (out_features, in_features) each, by module path; None where there are none."""
    import numpy as np

    file = gradient_file(request)
    if not file.is_file():
        return None
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}
